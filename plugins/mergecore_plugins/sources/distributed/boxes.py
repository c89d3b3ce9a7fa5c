"""A tensor that is put together of shards which are boxes of it; read `joined` first.  No whole tensor is ever held."""

from __future__ import annotations

import hashlib
import math
from bisect import bisect
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import TYPE_CHECKING

from mergecore.errors import InputError
from mergecore.types import Joined, Read, Reader, Segment, Stored, TensorData

if TYPE_CHECKING:
    from torch import Tensor

MAX_CELLS = 1_000_000


@dataclass(frozen=True)
class Box:
    """A shard: where it begins in each dimension, and its numbers."""

    offsets: tuple[int, ...]
    data: Stored

    @property
    def sizes(self) -> tuple[int, ...]:
        """How large it is in each dimension."""
        return self.data.shape


def joined(name: str, shape: tuple[int, ...], boxes: Sequence[Box], place: str) -> TensorData:
    """The tensor of all boxes: the one there is, rows of several one behind the other, or boxes in any order.

    Raises:
        InputError: E205 when the boxes overlap, leave a gap, or have several formats.
    """
    formats = sorted({one.data.dtype for one in boxes})
    if len(formats) > 1:
        raise _wrong(name, f"its shards are of several formats: {', '.join(formats)}", place)
    filled = [one for one in boxes if 0 not in one.sizes]
    if len(filled) == 1 and filled[0].sizes == shape:
        return Stored(name, formats[0], shape, filled[0].data.file, filled[0].data.offset)
    made = Boxes(formats[0], shape, tuple(filled)) if formats else None
    if made is None or not made.whole:
        raise _wrong(name, f"its shards do not make up its shape {list(shape)}", place)
    if any(one.sizes[1:] != shape[1:] for one in filled):
        return made
    width = math.prod(shape[1:])
    rows = sorted(filled, key=lambda one: one.offsets)
    segments = (Segment(one.offsets[0] * width, one.data, 0, math.prod(one.sizes)) for one in rows)
    return Joined(formats[0], shape, tuple(segments))


def _wrong(name: str, what: str, place: str) -> InputError:
    hint = "the checkpoint is incomplete or damaged; save it again"
    return InputError("E205", f"tensor '{name[:200]}': {what}", place=place, tensor=name, hint=hint)


@dataclass(frozen=True)
class Boxes:
    """A tensor of boxes that lie beside each other in several dimensions."""

    dtype: str
    shape: tuple[int, ...]
    boxes: tuple[Box, ...]

    computed = False
    extra_memory = (0, 0)

    @property
    def reads(self) -> tuple[Read, ...]:
        """All boxes."""
        return tuple(Read(one.data) for one in self.boxes)

    @property
    def identity(self) -> str:
        """Where each of them lies."""
        words = [(one.offsets, one.sizes, one.data.name) for one in self.boxes]
        return hashlib.sha256(repr((self.shape, words)).encode()).hexdigest()

    @property
    def whole(self) -> bool:
        """Whether every element is in one box and in no other."""
        cells = math.prod(map(len, self._cuts))
        covered = (
            sum(math.prod(map(len, self._spans(one))) for one in self.boxes) if cells <= MAX_CELLS else 0
        )
        return cells == covered == len(self._cells) or math.prod(self.shape) == 0

    @cached_property
    def _cuts(self) -> list[list[int]]:
        """Where boxes begin or end in each dimension."""
        return [
            sorted({0, *(one.offsets[axis] for one in self.boxes), *self._ends(axis)} - {length})
            for axis, length in enumerate(self.shape)
        ]

    def _ends(self, axis: int) -> list[int]:
        return [one.offsets[axis] + one.sizes[axis] for one in self.boxes]

    def _spans(self, box: Box) -> list[range]:
        """The cells between the cuts that a box covers, in each dimension."""
        return [
            range(bisect(cuts, first) - 1, bisect(cuts, first + size - 1))
            for cuts, first, size in zip(self._cuts, box.offsets, box.sizes, strict=True)
        ]

    @cached_property
    def _cells(self) -> dict[tuple[int, ...], int]:
        """The box that covers each cell."""
        return {cell: number for number, box in enumerate(self.boxes) for cell in product(*self._spans(box))}

    def load(self, reader: Reader, start: int, stop: int, into: Tensor) -> None:
        """Fill `into` with as many elements at once as follow one another in a box too."""
        at = start
        while at < stop:
            place = _place_of(at, self.shape)
            cell = tuple(bisect(cuts, one) - 1 for cuts, one in zip(self._cuts, place, strict=True))
            box = self.boxes[self._cells[cell]]
            inside = [one - first for one, first in zip(place, box.offsets, strict=True)]
            first = _index_of(inside, box.sizes)
            count = min(stop - at, self._run(box, inside))
            box.data.load(reader, first, first + count, into[at - start : at - start + count])
            at += count

    def _run(self, box: Box, inside: Sequence[int]) -> int:
        """How many elements from a place in a box on follow one another in the tensor too."""
        axis = len(self.shape) - 1
        while axis > 0 and box.sizes[axis] == self.shape[axis]:
            axis -= 1
        width = math.prod(self.shape[axis + 1 :])
        return (box.sizes[axis] - inside[axis]) * width - _index_of(
            inside[axis + 1 :], self.shape[axis + 1 :]
        )


def _place_of(index: int, shape: Sequence[int]) -> list[int]:
    place = []
    for length in reversed(shape):
        index, one = divmod(index, length)
        place.append(one)
    return place[::-1]


def _index_of(place: Sequence[int], shape: Sequence[int]) -> int:
    index = 0
    for one, length in zip(place, shape, strict=True):
        index = index * length + one
    return index
