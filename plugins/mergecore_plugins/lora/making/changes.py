"""The change of a weight, as `decomposing` wants it: held in memory, or read again in every pass.

Read `change_of`.  The rows of a weight are those that are stored, whatever they mean to its layer.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from mergecore import Block, TensorGroup

HELD = 2**28
"""Elements of a change that is held in memory; larger ones are read again in every pass."""
CHUNK = 2**22
"""Elements of the rows that are looked at together."""


def change_of(group: TensorGroup) -> Held | Streamed:
    """What one weight has become, less what it was."""
    return Streamed(group) if group.count > HELD else Held(_read(group))


def _read(group: TensorGroup) -> Tensor:
    whole = torch.empty(group.shape, dtype=group.dtype)

    def copy(block: Block) -> None:
        first, last = _rows(block, group)
        whole[first:last] = block.x[0]

    group.visit(copy, rows=True)
    return whole


def _rows(block: Block, group: TensorGroup) -> tuple[int, int]:
    columns = group.shape[1]
    return block.start // columns, block.stop // columns


@dataclass(frozen=True)
class Held:
    """A matrix (m, n) in memory."""

    matrix: Tensor

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.matrix.shape[0], self.matrix.shape[1]

    @property
    def dtype(self) -> torch.dtype:
        """That of its numbers."""
        return self.matrix.dtype

    def squares(self) -> float:
        """The sum of the squares of all numbers."""
        return sum(float(rows.double().square_().sum()) for _, rows in self._chunks())

    def times(self, z: Tensor) -> Tensor:
        """The product with z (n, l), (m, l)."""
        return self.matrix @ z

    def turned_times(self, q: Tensor) -> Tensor:
        """The product of the transpose with q (m, l), (n, l)."""
        return self.matrix.T @ q

    def whole(self) -> Tensor:
        """All of it."""
        return self.matrix

    def left_by(self, b: Tensor, a: Tensor) -> float:
        """The sum of the squares of what the product b (m, r) a (r, n) lacks."""
        left = (rows - b[first : first + len(rows)] @ a for first, rows in self._chunks())
        return sum(float(one.double().square_().sum()) for one in left)

    def _chunks(self) -> Iterator[tuple[int, Tensor]]:
        size = max(1, CHUNK // self.shape[1])
        for first in range(0, self.shape[0], size):
            yield first, self.matrix[first : first + size]


@dataclass(frozen=True)
class Streamed:
    """A matrix (m, n) that is read block by block, in every pass."""

    group: TensorGroup

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.group.shape[0], self.group.shape[1]

    @property
    def dtype(self) -> torch.dtype:
        """That in which it is computed."""
        return self.group.dtype

    def squares(self) -> float:
        """The sum of the squares of all numbers."""
        return float(self.group.reduce(lambda block: block.x[0].double().square().sum(), rows=True))

    def times(self, z: Tensor) -> Tensor:
        """The product with z (n, l), (m, l)."""
        product = torch.empty((self.shape[0], z.shape[1]), dtype=self.dtype)

        def put(block: Block) -> None:
            first, last = _rows(block, self.group)
            product[first:last] = block.x[0] @ z

        self.group.visit(put, rows=True)
        return product

    def turned_times(self, q: Tensor) -> Tensor:
        """The product of the transpose with q (m, l), (n, l)."""

        def part(block: Block) -> Tensor:
            first, last = _rows(block, self.group)
            return (block.x[0].T @ q[first:last]).double()

        return self.group.reduce(part, rows=True).to(self.dtype)

    def whole(self) -> Tensor:
        """All of it, which the memory has to hold."""
        return _read(self.group)

    def left_by(self, b: Tensor, a: Tensor) -> float:
        """The sum of the squares of what the product b (m, r) a (r, n) lacks."""

        def part(block: Block) -> Tensor:
            first, last = _rows(block, self.group)
            return (block.x[0] - b[first:last] @ a).double().square().sum()

        return float(self.group.reduce(part, rows=True))
