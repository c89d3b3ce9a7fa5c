"""Low-rank changes of tensors, and the arithmetic; read `LowRank` first."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mergecore.types import TensorInfo
from mergecore_plugins.lora.changes import Opened, Read, Rows, as_matrix

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class LowRank:
    """`scale · B A` is added: A (r, in), B (out, r); (in, out) where `transposed`.

    magnitude: DoRA, arXiv:2402.09353: rows of the sum (columns, where transposed) are then brought to these lengths.
    residual: "pissa" (arXiv:2404.02948) or "olora" (arXiv:2406.01775): the part of the base that training began with,
    found again by the same decomposition, is taken out first.
    """

    a: TensorInfo
    b: TensorInfo
    scale: float
    transposed: bool = False
    magnitude: TensorInfo | None = None
    residual: str | None = None
    rank: int = 0

    @property
    def stored(self) -> tuple[TensorInfo, ...]:
        return (self.a, self.b, *([self.magnitude] if self.magnitude else []))

    @property
    def identity(self) -> str:
        return f"low rank, {self.scale!r}, {self.transposed}, {bool(self.magnitude)}, {self.residual}"

    def matrix(self, shape: tuple[int, ...]) -> tuple[int, int]:
        return as_matrix(shape)

    def held(self, shape: tuple[int, ...]) -> int:
        whole = 3 * math.prod(shape) if self.residual else 0
        norms = max(shape[0], math.prod(shape[1:])) if self.magnitude else 0
        whole = max(whole, 2 * math.prod(shape) if norms and self.transposed and _fits(shape) else 0)
        return 4 * (self.a.count + self.b.count + 2 * norms + whole)

    def open(self, read: Read, rows: Rows, shape: tuple[int, ...]) -> Opened:
        factors = [Product(read(self.a).flatten(1), read(self.b).flatten(1), self.scale, self.transposed)]
        if self.residual:
            begun = _beginning(
                self.residual, rows(0, as_matrix(shape)[0]), self.rank, self.scale, self.transposed
            )
            factors.insert(0, Product(*begun, -self.scale, self.transposed))
        if self.magnitude is None:
            return Sum(factors)
        return _Dora(factors, read(self.magnitude).flatten(), self.transposed, rows, as_matrix(shape))


class Product:
    """Rows of `scale · B A`, or of its transpose."""

    def __init__(self, a: Tensor, b: Tensor, scale: float, transposed: bool = False) -> None:
        self._a, self._b, self._scale, self._transposed = a, b, scale, transposed
        self.count = a.shape[1] if transposed else b.shape[0]

    def rows(self, first: int, last: int) -> Tensor:
        """Rows `first` to `last`, whose numbers do not depend on which others are asked for.

        Products of one row alone are rounded otherwise, so two are made at least; where they are turned, `first` is a
        multiple of the grain, and a grain is computed at a time.
        """
        if self._transposed:
            return self._turned(first, last)
        start, stop = first, last
        if last - first == 1 and self.count > 1:
            start, stop = (first - 1, last) if first else (first, last + 1)
        return (self._b[start:stop] @ self._a).mul_(self._scale)[first - start : last - start]

    def _turned(self, first: int, last: int) -> Tensor:
        import torch

        made = torch.empty((last - first, len(self._b)), dtype=self._a.dtype)
        for start in range(first, last, WIDE_GRAIN):
            stop = min(start + WIDE_GRAIN, last)
            made[start - first : stop - first] = (self._b @ self._a[:, start:stop]).T
        return made.mul_(self._scale)


WIDE_GRAIN = 64
"""Columns of a product that are computed at once where it is turned: other numbers of them round otherwise."""


class Sum:
    """Products that are added."""

    def __init__(self, factors: list[Product]) -> None:
        self._factors = factors
        self.grain = 1 if not factors[0]._transposed else WIDE_GRAIN

    def apply(self, first: int, x: Tensor, unchanged: Tensor) -> Tensor:
        for factor in self._factors:
            x += factor.rows(first, first + len(x))
        return x


class _Dora(Sum):
    """Rows (columns, where transposed) of the sum get the lengths that were trained."""

    def __init__(
        self, factors: list[Product], magnitude: Tensor, transposed: bool, rows: Rows, shape: tuple[int, int]
    ) -> None:
        super().__init__(factors)
        self._magnitude = magnitude
        self._factor = magnitude / self._column_norms(rows, shape) if transposed else None

    def apply(self, first: int, x: Tensor, unchanged: Tensor) -> Tensor:
        import torch

        last = first + len(x)
        if self._factor is not None:
            return super().apply(first, x, unchanged).mul_(self._factor)
        same = x is unchanged
        x = super().apply(first, x, unchanged)
        alone = x if same else super().apply(first, unchanged.clone(), unchanged)
        norms = torch.linalg.norm(alone, dim=1)
        return x.mul_((self._magnitude[first:last] / norms).view(-1, 1))

    def _column_norms(self, rows: Rows, shape: tuple[int, int]) -> Tensor:
        """The length of every column of the changed tensor (columns,)."""
        import torch

        count, columns = shape
        if _fits(shape):
            x = rows(0, count)
            norms: Tensor = torch.linalg.norm(super().apply(0, x, x), dim=0)
            return norms
        sums = torch.zeros(columns, dtype=torch.float64)
        for first in range(0, count, WIDE_GRAIN):
            x = rows(first, min(first + WIDE_GRAIN, count))
            sums += super().apply(first, x, x).double().square_().sum(0)
        return sums.sqrt_().to(self._magnitude.dtype)


def _fits(shape: tuple[int, ...]) -> bool:
    """Whether lengths of columns are taken of the whole tensor at once, as PEFT does, and not added row by row."""
    return math.prod(shape) <= 2**24


def _beginning(kind: str, x: Tensor, rank: int, scale: float, transposed: bool) -> tuple[Tensor, Tensor]:
    """The factors A and B with which training began, from the base alone."""
    import torch

    weight = x.T if transposed else x
    if kind == "olora":
        q, r = torch.linalg.qr(weight)
        return r[:rank].contiguous(), q[:, :rank].contiguous()
    u, s, v = torch.linalg.svd(weight, full_matrices=False)
    root = torch.diag(torch.sqrt(s[:rank] / scale))
    return root @ v[:rank], u[:, :rank] @ root


# ---- experts -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Experts:
    """Stacked experts (experts, out, in), or (experts, in, out) where `transposed`, each with factors of its own.

    A (experts · r, in) holds them one below the other, B (out, r · experts) each in every `experts`-th column.
    """

    a: TensorInfo
    b: TensorInfo
    scale: float
    experts: int
    transposed: bool = False

    @property
    def stored(self) -> tuple[TensorInfo, ...]:
        return (self.a, self.b)

    @property
    def identity(self) -> str:
        return f"experts, {self.scale!r}, {self.experts}, {self.transposed}"

    def matrix(self, shape: tuple[int, ...]) -> tuple[int, int]:
        """Those of all experts, one below the other."""
        return shape[0] * shape[1], shape[2]

    def held(self, shape: tuple[int, ...]) -> int:
        return 8 * (self.a.count + self.b.count)

    def open(self, read: Read, rows: Rows, shape: tuple[int, ...]) -> Opened:
        a, b = read(self.a), read(self.b)
        a = a.reshape(self.experts, -1, a.shape[-1])  # (experts, r, in)
        b = b.reshape(b.shape[0], -1, self.experts)  # (out, r, experts)
        return _Experts(
            [Product(a[i], b[:, :, i].contiguous(), self.scale, self.transposed) for i in range(self.experts)]
        )


class _Experts:
    grain = 1

    def __init__(self, products: list[Product]) -> None:
        self._products = products
        self.grain = WIDE_GRAIN if products[0]._transposed else 1

    def apply(self, first: int, x: Tensor, unchanged: Tensor) -> Tensor:
        each = self._products[0].count
        done = 0
        while done < len(x):
            expert, row = divmod(first + done, each)
            count = min(each - row, len(x) - done)
            x[done : done + count] += self._products[expert].rows(row, row + count)
            done += count
        return x
