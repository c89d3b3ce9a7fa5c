"""Changes of kinds near to LoRA: factors with scales of their own, and rows or columns times a vector."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mergecore.types import TensorInfo
from mergecore_plugins.lora.changes import Opened, Read, Rows, as_matrix
from mergecore_plugins.lora.low_rank import Product, Sum

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Factored:
    """`(diag(rows) B) (diag(ranks) A) · scale / divisor` is added.

    AdaLoRA, arXiv:2303.10512: `ranks` are its singular values.  VeRA, arXiv:2310.11454: A and B are shared by all
    layers, of which each takes the first columns and rows.
    """

    a: TensorInfo
    b: TensorInfo
    ranks: TensorInfo
    rows: TensorInfo | None = None
    scale: float = 1.0
    divisor: float = 1.0
    transposed: bool = False

    @property
    def stored(self) -> tuple[TensorInfo, ...]:
        return (self.a, self.b, self.ranks, *([self.rows] if self.rows else []))

    @property
    def identity(self) -> str:
        return f"factors with scales, {self.scale!r}, {self.divisor!r}, {self.transposed}"

    def matrix(self, shape: tuple[int, ...]) -> tuple[int, int]:
        return as_matrix(shape)

    def held(self, shape: tuple[int, ...]) -> int:
        return 8 * (self.a.count + self.b.count)

    def open(self, read: Read, rows: Rows, shape: tuple[int, ...]) -> Opened:
        count, columns = as_matrix(shape)[:: -1 if self.transposed else 1]
        a = read(self.a)[:, :columns] * read(self.ranks).view(-1, 1)
        b = read(self.b)[:count]
        if self.rows:
            b = read(self.rows).view(-1, 1) * b
        return Sum([_Divided(a, b.contiguous(), self.scale, self.transposed, self.divisor)])


class _Divided(Product):
    def __init__(self, a: Tensor, b: Tensor, scale: float, transposed: bool, divisor: float) -> None:
        super().__init__(a, b, scale, transposed)
        self._divisor = a.new_tensor(divisor)

    def rows(self, first: int, last: int) -> Tensor:
        return super().rows(first, last).div_(self._divisor)


@dataclass(frozen=True)
class Multiplied:
    """Each row, or each column where `by_column`, is multiplied by a number: IA3, arXiv:2205.05638."""

    tensor: TensorInfo
    by_column: bool

    @property
    def stored(self) -> tuple[TensorInfo, ...]:
        return (self.tensor,)

    @property
    def identity(self) -> str:
        return f"multiplied, {self.by_column}"

    def matrix(self, shape: tuple[int, ...]) -> tuple[int, int]:
        return as_matrix(shape)

    def held(self, shape: tuple[int, ...]) -> int:
        return 4 * self.tensor.count * (math.prod(shape[2:]) if self.by_column else 1)

    def open(self, read: Read, rows: Rows, shape: tuple[int, ...]) -> Opened:
        numbers = read(self.tensor).flatten()
        if self.by_column:
            return _Multiplied(numbers.repeat_interleave(math.prod(shape[2:])).view(1, -1), True)
        return _Multiplied(numbers.view(-1, 1), False)


class _Multiplied:
    grain = 1

    def __init__(self, numbers: Tensor, by_column: bool) -> None:
        self._numbers, self._by_column = numbers, by_column

    def apply(self, first: int, x: Tensor, unchanged: Tensor) -> Tensor:
        return x.mul_(self._numbers if self._by_column else self._numbers[first : first + len(x)])
