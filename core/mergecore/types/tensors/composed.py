"""Tensors that are put together of others: computed, segments joined, rows moved; read `MovedRows.load`.

No whole matrix is ever held.
"""

from __future__ import annotations

import bisect
import hashlib
import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING, Self, cast

from mergecore.files.dtypes import MERGEABLE, promoted, torch_dtype
from mergecore.types.models import TensorInfo
from mergecore.types.tensors.data import (
    BLOCK,
    Array,
    ForEach,
    InMemory,
    Prepares,
    Read,
    Reader,
    TensorData,
    described,
    extra_memory_of,
    one_by_one,
    prepared,
)
from mergecore.types.tensors.rows import read_rows

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from torch import Tensor

    from mergecore.types.tensors.rows import RowIds

_SPANS = 64
"""Parts in which the rows are added for a mean; fixed, as the result depends on it."""

_ROOMS = 4
"""Blocks of 8 bytes that moving rows takes: as stored, nearby, of another tensor, to be added up."""

# ---- anything computed -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Computed(ABC):
    """A base for tensors that are computed of others: a subclass adds its fields and `load`.

    The first of the `parts` gives format and shape.  What `load` borrows from the reader counts in `extra_memory`.
    """

    parts: tuple[TensorData, ...]
    """The tensors that it is computed of."""

    computed = True

    @property
    def dtype(self) -> str:
        """That of the first part."""
        return self.parts[0].dtype

    @property
    def shape(self) -> tuple[int, ...]:
        """That of the first part."""
        return self.parts[0].shape

    @property
    def reads(self) -> tuple[Read, ...]:
        """What the parts read."""
        return tuple(dict.fromkeys(read for part in self.parts for read in part.reads))

    @property
    def identity(self) -> str:
        """Its kind, its parts and the values of its other fields."""
        others = [(one.name, _word(getattr(self, one.name))) for one in fields(self) if one.name != "parts"]
        return repr((type(self).__qualname__, others, [described(part) for part in self.parts]))

    @property
    def extra_memory(self) -> tuple[int, int]:
        """What the parts keep."""
        return extra_memory_of(self.parts)

    def prepare(self, reader: Reader, for_each: ForEach) -> Self:
        """The same, with those parts prepared that need it."""
        ready = {id(part): prepared(part, reader, for_each) for part in self.parts}
        return replace(self, parts=tuple(ready[id(part)] for part in self.parts))

    @abstractmethod
    def load(self, reader: Reader, start: int, stop: int, into: Tensor) -> None:
        """Fill `into` (stop - start,), float32 or float64, with the elements from `start` up to `stop`."""


def _word(value: object) -> str:
    """What distinguishes a value of a field from another; of an array its numbers, of which `repr` shows a few only."""
    return InMemory("", cast("Array", value)).identity if hasattr(value, "dtype") else repr(value)


# ---- segments ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Segment:
    """Consecutive elements of a tensor, and where they stand in the one that is put together."""

    at: int
    """Its first element in the tensor that is put together."""
    data: TensorData
    """The tensor that it is taken from."""
    start: int
    """Its first element there."""
    count: int
    """How many elements it has."""


@dataclass(frozen=True)
class Joined:
    """Segments of tensors of one format, which follow one another without a gap."""

    dtype: str
    """The format of all of them."""
    shape: tuple[int, ...]
    """The shape of the whole."""
    segments: tuple[Segment, ...]
    """In the order of their elements."""

    @property
    def reads(self) -> tuple[Read, ...]:
        """What its segments read."""
        return tuple(dict.fromkeys(read for one in self.segments for read in one.data.reads))

    @property
    def identity(self) -> str:
        """What is read from where."""
        words = [(one.at, described(one.data), one.start, one.count) for one in self.segments]
        return hashlib.sha256(repr(words).encode()).hexdigest()

    @property
    def computed(self) -> bool:
        """Whether any segment is."""
        return any(one.data.computed for one in self.segments)

    @property
    def extra_memory(self) -> tuple[int, int]:
        """What its segments keep."""
        return extra_memory_of(one.data for one in self.segments)

    def prepare(self, reader: Reader, for_each: ForEach) -> TensorData:
        """The same, with those tensors prepared that need it."""
        parts = {id(one.data): one.data for one in self.segments}
        if not any(isinstance(one, Prepares) for one in parts.values()):
            return self
        ready = {key: prepared(one, reader, for_each) for key, one in parts.items()}
        return replace(self, segments=tuple(replace(one, data=ready[id(one.data)]) for one in self.segments))

    def load(self, reader: Reader, start: int, stop: int, into: Tensor) -> None:
        """Fill `into` segment by segment."""
        index = bisect.bisect(self.segments, start, key=lambda one: one.at) - 1
        at = start
        while at < stop:
            one = self.segments[index]
            first = one.start + at - one.at
            count = min(stop - at, one.at + one.count - at)
            one.data.load(reader, first, first + count, into[at - start : at - start + count])
            at += count
            index += 1


# ---- rows --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class RowSource:
    """Rows of a tensor: `rows[i]` (aligned,) stands for row i of the output, -1 where none does."""

    model: int
    """Index into `Plan.models`."""
    tensor: TensorInfo
    """The tensor that has the rows."""
    rows: npt.NDArray[np.int64]
    """For each row of the output, the row here; -1 where there is none."""


@dataclass(frozen=True, eq=False)
class MovedRows:
    """A tensor whose rows, along `axis`, are those of other tensors: brought to another vocabulary, say.

    Row i is the mean of what the `sources` have for it, zero where none has anything.  Rows from `aligned` up to
    `size` are padding: the mean of all rows before them.
    """

    axis: int
    """The axis along which rows run."""
    size: int
    """How many rows there are, padding included."""
    aligned: int
    """How many of them are no padding."""
    sources: tuple[RowSource, ...]
    """At least one: the tensor itself comes first."""
    padding: Tensor | None = None
    """(outer, inner), what padding rows get, once it is known."""

    computed = True

    @cached_property
    def dtype(self) -> str:
        """The narrowest format that holds the rows of all sources; that of the first where it is of no such kind."""
        formats = [one.tensor.dtype for one in self.sources]
        return promoted(formats) if formats[0] in MERGEABLE else formats[0]

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """That of the first source with as many rows as there are now."""
        stored = self.sources[0].tensor.shape
        return (*stored[: self.axis], self.size, *stored[self.axis + 1 :])

    @property
    def reads(self) -> tuple[Read, ...]:
        """What the sources read, each with its model."""
        found = (
            Read(tensor, one.model if model is None else model)
            for one in self.sources
            for tensor, model in one.tensor.data.reads
        )
        return tuple(dict.fromkeys(found))

    @property
    def identity(self) -> str:
        """Which rows come from where."""
        digest = hashlib.sha256(repr((self.axis, self.size, self.aligned)).encode())
        for one in self.sources:
            digest.update(repr((one.model, described(one.tensor.data))).encode())
            digest.update(one.rows.astype("<i8").tobytes())
        return digest.hexdigest()

    @property
    def extra_memory(self) -> tuple[int, int]:
        """The numbers of the rows once; and for each worker, rows on their way."""
        size = max(min(BLOCK, math.prod(self.shape)), self.shape[-1])
        once, each = extra_memory_of(one.tensor.data for one in self.sources)
        return once + sum(one.rows.nbytes for one in self.sources), each + 8 * _ROOMS * size

    @property
    def known(self) -> npt.NDArray[np.bool_]:
        """For each row, whether any source has it; the others are zero, or padding."""
        import numpy as np

        stored = np.stack([one.rows >= 0 for one in self.sources]).any(axis=0)
        return np.concatenate([stored, np.zeros(self.size - self.aligned, dtype=np.bool_)])

    @property
    def _outer(self) -> int:
        return math.prod(self.shape[: self.axis])

    @cached_property
    def _inner(self) -> int:
        return math.prod(self.shape[self.axis + 1 :])

    def prepare(self, reader: Reader, for_each: ForEach) -> MovedRows:
        """The same with the sources prepared that need it, and the mean of all rows where there is padding."""
        ready = self
        if any(isinstance(one.tensor.data, Prepares) for one in self.sources):
            data = {id(one.tensor): prepared(one.tensor.data, reader, for_each) for one in self.sources}
            tensors = [replace(one.tensor, data=data[id(one.tensor)]) for one in self.sources]
            sources = [replace(one, tensor=new) for one, new in zip(self.sources, tensors, strict=True)]
            ready = replace(self, sources=tuple(sources))
        return ready if self.size == self.aligned else ready._padded(reader.unchecked, for_each)

    def _padded(self, reader: Reader, for_each: ForEach) -> MovedRows:
        import numpy as np
        import torch

        chunk = max(1, BLOCK // self._inner)
        span = chunk * max(1, -(-self.aligned // (chunk * _SPANS)))  # rows
        parts = -(-self.aligned // span)
        sums = np.zeros((self._outer, parts, self._inner))

        def add(index: int) -> None:
            outer, part = divmod(index, parts)
            for first in range(part * span, min((part + 1) * span, self.aligned), chunk):
                count = min(chunk, (part + 1) * span - first, self.aligned - first)
                with reader.room((count, self._inner), torch.float64) as rows:
                    self._load_rows(reader, outer, first, 0, rows)
                    sums[outer, part] += np.add.reduce(rows.numpy(), axis=0)

        for_each(self._outer * parts, add)
        return replace(self, padding=torch.from_numpy(np.add.reduce(sums, axis=1) / max(1, self.aligned)))

    def load(self, reader: Reader, start: int, stop: int, into: Tensor) -> None:
        """Fill `into` with as many whole rows at once as there are."""
        if self.padding is None and self.size > self.aligned:
            self.prepare(reader, one_by_one).load(reader, start, stop, into)
            return
        at = start
        while at < stop:
            row, column = divmod(at, self._inner)
            outer, first = divmod(row, self.size)
            if column or stop - at < self._inner:
                count, width = 1, min(stop - at, self._inner - column)
            else:
                count, width = min((stop - at) // self._inner, self.size - first), self._inner
            end = at + count * width
            self._fill(reader, outer, first, column, into[at - start : end - start].view(count, width))
            at = end

    def _fill(self, reader: Reader, outer: int, first: int, column: int, out: Tensor) -> None:
        """Fill `out` (rows, width) with rows from `first` on, from `column` on."""
        aligned = min(max(self.aligned - first, 0), len(out))
        if aligned < len(out):
            assert self.padding is not None
            out[aligned:] = self.padding[outer, column : column + out.shape[1]]
        if aligned:
            self._load_rows(reader, outer, first, column, out[:aligned])

    def _load_rows(self, reader: Reader, outer: int, first: int, column: int, out: Tensor) -> None:
        """The same for rows that are no padding: the mean of what the sources have."""
        import numpy as np
        import torch

        chosen = [(one, one.rows[first : first + len(out)]) for one in self.sources]
        chosen = [(one, rows) for one, rows in chosen if rows.max() >= 0]
        if len(chosen) == 1 and chosen[0][1].min() >= 0:
            self._gather(reader, chosen[0][0], outer, chosen[0][1], column, out)
            return
        out.zero_()
        votes = np.zeros(len(out), dtype=np.int64)
        for one, rows in chosen:
            places = np.flatnonzero(rows >= 0)
            with reader.room((len(places), out.shape[1]), out.dtype) as part:
                self._gather(reader, one, outer, rows[places], column, part)
                put = out.index_add_ if votes[places].any() else out.index_copy_
                put(0, torch.from_numpy(places), part)
            votes[places] += 1
        shared = np.flatnonzero(votes > 1)
        if len(shared):
            out[torch.from_numpy(shared)] /= torch.from_numpy(votes[shared]).to(out.dtype)[:, None]

    def _gather(
        self, reader: Reader, one: RowSource, outer: int, rows: RowIds, column: int, out: Tensor
    ) -> None:
        """Fill `out` (k, width) with `rows` (k,) of a source, from `column` on; k is 1 for a part of a row."""
        data = one.tensor.data
        base = outer * data.shape[self.axis] * self._inner + column
        dtype = out.dtype if data.computed else torch_dtype(data.dtype)
        if out.dtype == dtype:
            read_rows(reader, data, base, self._inner, rows, out)
            return
        with reader.room(tuple(out.shape), dtype) as raw:
            read_rows(reader, data, base, self._inner, rows, raw)
            out.copy_(raw)
