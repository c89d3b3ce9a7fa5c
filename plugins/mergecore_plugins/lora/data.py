"""A tensor of a base with an adapter on it, computed while it is read; read `Adapted.load`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mergecore.files import DTYPES
from mergecore.types import (
    ForEach,
    Read,
    Reader,
    TensorData,
    TensorInfo,
    extra_memory_of,
    one_by_one,
    prepared,
)
from mergecore_plugins.lora.changes import Change, Opened, Scaled
from mergecore_plugins.lora.kinds.defined import Defined
from mergecore_plugins.lora.kinds.factored import Multiplied

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass(frozen=True)
class Adapted:
    """A tensor and the changes of adapters, one after the other; the sum is not rounded before it is used."""

    base: TensorData
    changes: tuple[Change, ...]
    opened: tuple[Opened, ...] | None = None
    """The changes with their factors in memory, once they are there."""

    computed = True

    @property
    def dtype(self) -> str:
        """That of the base."""
        return self.base.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        """That of the base."""
        return self.base.shape

    @property
    def reads(self) -> tuple[Read, ...]:
        """The tensor of the base and those of the adapters."""
        factors = (read for change in self.changes for one in change.stored for read in one.data.reads)
        return tuple(dict.fromkeys([*self.base.reads, *factors]))

    @property
    def identity(self) -> str:
        """What is done to it."""
        return "; ".join([self.base.identity, *(one.identity for one in self.changes)])

    @property
    def extra_memory(self) -> tuple[int, int]:
        """The factors once, and for each worker rows on their way."""
        once, each = extra_memory_of([self.base])
        rows, columns = self._matrix
        width = 8 * columns * min(rows, max(self._grain, -(-_BLOCK // max(1, columns))) + 2 * self._grain)
        return once + sum(one.held(self.shape) for one in self.changes), each + 4 * width

    def prepare(self, reader: Reader, for_each: ForEach) -> Adapted:
        """The same with all factors read, in float32 or the wider dtype of the base."""
        base = prepared(self.base, reader, for_each)
        dtype = _compute_dtype(self.dtype)
        columns = self._matrix[1]

        def read(tensor: TensorInfo) -> Tensor:
            import torch

            fractions = DTYPES[tensor.dtype].floating  # whole numbers, such as positions, must stay exact
            numbers = torch.empty(tensor.count, dtype=dtype if fractions else torch.float64)
            prepared(tensor.data, reader, for_each).load(reader, 0, tensor.count, numbers)
            return numbers.view(tensor.shape) if fractions else numbers.view(tensor.shape).long()

        def rows(first: int, last: int) -> Tensor:
            import torch

            numbers = torch.empty((last - first) * columns, dtype=dtype)
            base.load(reader, first * columns, last * columns, numbers)
            return numbers.view(last - first, columns)

        opened = tuple(one.open(read, rows, self.shape) for one in self.changes)
        return replace(self, base=base, opened=opened)

    def load(self, reader: Reader, start: int, stop: int, into: Tensor) -> None:
        """Fill `into` from whole rows; how many rows are computed at once does not change their numbers."""
        if self.opened is None:
            self.prepare(reader, one_by_one).load(reader, start, stop, into)
            return
        columns = self._matrix[1]
        first, last = self._rows(start // columns, -(-stop // columns))
        whole = first * columns == start and last * columns == stop
        if whole:
            self._fill(reader, first, last, into)
            return
        with reader.room(((last - first) * columns,), into.dtype) as rows:
            self._fill(reader, first, last, rows)
            into.copy_(rows[start - first * columns : stop - first * columns])

    def _fill(self, reader: Reader, first: int, last: int, into: Tensor) -> None:
        columns = self._matrix[1]
        self.base.load(reader, first * columns, last * columns, into)
        x = unchanged = into.view(last - first, columns)
        assert self.opened is not None
        if len(self.opened) > 1:
            unchanged = x.clone()
        for one in self.opened:
            x = one.apply(first, x, unchanged)
        if x.data_ptr() != into.data_ptr():
            into.view(x.shape).copy_(x)

    def _rows(self, first: int, last: int) -> tuple[int, int]:
        """What to compute for rows `first` to `last`: whole grains."""
        count, grain = self._matrix[0], self._grain
        return first - first % grain, min(count, -(-last // grain) * grain)

    @property
    def _matrix(self) -> tuple[int, int]:
        return self.changes[0].matrix(self.shape)

    @property
    def _grain(self) -> int:
        return max((one.grain for one in self.opened or ()), default=1)


_BLOCK = 2**18
"""Elements that are asked for at once, at most."""


def _compute_dtype(dtype: str) -> torch.dtype:
    import torch

    return torch.float64 if dtype == "F64" else torch.float32


def adapted(tensor: TensorInfo, changes: tuple[Change, ...], scale: float = 1.0) -> TensorInfo:
    """A tensor of a model with the changes of an adapter, or a share of them; earlier adapters come first."""
    share = changes if scale == 1 else tuple(Scaled(one, scale) for one in changes)
    data = tensor.data
    if isinstance(data, Adapted) and not any(map(_in_turn, (*data.changes, *changes))):
        return replace(tensor, data=replace(data, changes=(*data.changes, *share)))
    return replace(tensor, data=Adapted(data, share))


def _in_turn(change: Change) -> bool:
    """Whether a change is not a sum, and is made to what the changes before it have made."""
    return isinstance(change.change if isinstance(change, Scaled) else change, (Defined, Multiplied))
