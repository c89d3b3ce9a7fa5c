"""What an adapter does to one tensor: values that say it, and the arithmetic.

A `Change` is a description; `Change.open` reads its factors and gives an `Opened`, which changes whole rows of the
tensor.  The tensor counts as a matrix (rows, columns), most often of its first axis and of all others.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias

from mergecore.types import TensorInfo

if TYPE_CHECKING:
    from torch import Tensor

Read: TypeAlias = "Callable[[TensorInfo], Tensor]"
"""The numbers of a whole stored tensor, in the dtype to compute in."""
Rows: TypeAlias = "Callable[[int, int], Tensor]"
"""Rows `first` to `last` (rows, columns) of the tensor before any change; the caller may write into them."""


class Opened(Protocol):
    """A change whose factors are in memory."""

    grain: int
    """Rows are asked for from a multiple of it on, so that their values do not depend on how many are."""

    def apply(self, first: int, x: Tensor, unchanged: Tensor) -> Tensor:
        """The rows `x` (rows, columns) from row `first` on, changed, in `x` itself or not.

        unchanged: the same rows of the base, before any adapter.
        """


class Change(Protocol):
    """What an adapter does to a tensor; small, and can be pickled."""

    @property
    def stored(self) -> tuple[TensorInfo, ...]:
        """The tensors of the adapter that are read."""

    @property
    def identity(self) -> str:
        """What it does, beside the numbers of the tensors, for a manifest."""

    def matrix(self, shape: tuple[int, ...]) -> tuple[int, int]:
        """Rows and columns of a tensor of `shape`, as this change counts them."""

    def held(self, shape: tuple[int, ...]) -> int:
        """Bytes in memory while a tensor of `shape` is changed."""

    def open(self, read: Read, rows: Rows, shape: tuple[int, ...]) -> Opened:
        """The change of a tensor of `shape`, whose rows before any change are `rows`."""


def as_matrix(shape: tuple[int, ...]) -> tuple[int, int]:
    """Rows and columns of a tensor: its first axis, and all others; a vector is a column."""
    return shape[0], math.prod(shape[1:])


# ---- vectors and rows --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Added:
    """A tensor of the same shape, times `scale`, is added: the trained bias of a low-rank layer."""

    tensor: TensorInfo
    scale: float

    @property
    def stored(self) -> tuple[TensorInfo, ...]:
        return (self.tensor,)

    @property
    def identity(self) -> str:
        return f"added, {self.scale!r}"

    def matrix(self, shape: tuple[int, ...]) -> tuple[int, int]:
        return as_matrix(shape)

    def held(self, shape: tuple[int, ...]) -> int:
        return 4 * self.tensor.count

    def open(self, read: Read, rows: Rows, shape: tuple[int, ...]) -> Opened:
        return _Added(read(self.tensor).view(as_matrix(shape)) * self.scale)


class _Added:
    grain = 1

    def __init__(self, addend: Tensor) -> None:
        self._addend = addend

    def apply(self, first: int, x: Tensor, unchanged: Tensor) -> Tensor:
        x += self._addend[first : first + len(x)]
        return x


@dataclass(frozen=True)
class Whole:
    """All of the tensor is another, which was trained."""

    tensor: TensorInfo

    @property
    def stored(self) -> tuple[TensorInfo, ...]:
        return (self.tensor,)

    @property
    def identity(self) -> str:
        return "whole"

    def matrix(self, shape: tuple[int, ...]) -> tuple[int, int]:
        return as_matrix(shape)

    def held(self, shape: tuple[int, ...]) -> int:
        return 4 * self.tensor.count

    def open(self, read: Read, rows: Rows, shape: tuple[int, ...]) -> Opened:
        return _Whole(read(self.tensor).view(as_matrix(shape)))


class _Whole:
    grain = 1

    def __init__(self, trained: Tensor) -> None:
        self._trained = trained

    def apply(self, first: int, x: Tensor, unchanged: Tensor) -> Tensor:
        return x.copy_(self._trained[first : first + len(x)])


@dataclass(frozen=True)
class ReplacedRows:
    """Some rows of an embedding are others: tokens that were trained alone."""

    tensor: TensorInfo
    """One row (rows, columns) for each of `places`."""
    places: tuple[int, ...]

    @property
    def stored(self) -> tuple[TensorInfo, ...]:
        return (self.tensor,)

    @property
    def identity(self) -> str:
        return f"rows {self.places}"

    def matrix(self, shape: tuple[int, ...]) -> tuple[int, int]:
        return as_matrix(shape)

    def held(self, shape: tuple[int, ...]) -> int:
        return 4 * self.tensor.count

    def open(self, read: Read, rows: Rows, shape: tuple[int, ...]) -> Opened:
        return _ReplacedRows(read(self.tensor), self.places)


class _ReplacedRows:
    grain = 1

    def __init__(self, trained: Tensor, places: tuple[int, ...]) -> None:
        self._trained = trained
        self._places = places

    def apply(self, first: int, x: Tensor, unchanged: Tensor) -> Tensor:
        for index, place in enumerate(self._places):
            if first <= place < first + len(x):
                x[place - first] = self._trained[index]
        return x


# ---- around a change ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RowsOfChange:
    """The change of a larger tensor, of which this one is the rows from `row` on."""

    change: Change
    whole: tuple[int, ...]
    row: int

    @property
    def stored(self) -> tuple[TensorInfo, ...]:
        return self.change.stored

    @property
    def identity(self) -> str:
        return f"{self.change.identity}, rows from {self.row} of {self.whole}"

    def matrix(self, shape: tuple[int, ...]) -> tuple[int, int]:
        columns = self.change.matrix(self.whole)[1]
        return math.prod(shape) // columns, columns

    def held(self, shape: tuple[int, ...]) -> int:
        return self.change.held(self.whole)

    def open(self, read: Read, rows: Rows, shape: tuple[int, ...]) -> Opened:
        return _RowsOfChange(self.change.open(read, rows, self.whole), self.row)


class _RowsOfChange:
    def __init__(self, opened: Opened, row: int) -> None:
        self._opened, self._row = opened, row
        self.grain = math.gcd(opened.grain, row) if row else opened.grain

    def apply(self, first: int, x: Tensor, unchanged: Tensor) -> Tensor:
        return self._opened.apply(first + self._row, x, unchanged)


@dataclass(frozen=True)
class Scaled:
    """Only a share of what a change does: `x + share · (changed - x)`."""

    change: Change
    share: float

    @property
    def stored(self) -> tuple[TensorInfo, ...]:
        return self.change.stored

    @property
    def identity(self) -> str:
        return f"{self.share!r} of {self.change.identity}"

    def matrix(self, shape: tuple[int, ...]) -> tuple[int, int]:
        return self.change.matrix(shape)

    def held(self, shape: tuple[int, ...]) -> int:
        return self.change.held(shape)

    def open(self, read: Read, rows: Rows, shape: tuple[int, ...]) -> Opened:
        return _Scaled(self.change.open(read, rows, shape), self.share)


class _Scaled:
    def __init__(self, opened: Opened, share: float) -> None:
        self._opened, self._share = opened, share
        self.grain = opened.grain

    def apply(self, first: int, x: Tensor, unchanged: Tensor) -> Tensor:
        before = x.clone()
        same = x is unchanged
        changed = self._opened.apply(first, x, x if same else unchanged)
        return before.add_(changed - before, alpha=self._share)
