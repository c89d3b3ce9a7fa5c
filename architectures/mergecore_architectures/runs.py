"""Tensors that are put together of others without touching a number; read `Runs`.

All is done on lists of runs: consecutive elements of some tensor, in the order in which they stand in the new one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Run:
    """The elements `start` to `start + count` of a tensor."""

    source: str
    start: int
    count: int


@dataclass(frozen=True)
class Runs:
    """A tensor as the runs that it consists of, in C order."""

    shape: Shape
    runs: tuple[Run, ...]

    @property
    def count(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    def part(self, start: int, count: int) -> Iterator[Run]:
        """The runs of `count` elements from `start` on."""
        at = 0
        for run in self.runs:
            first, last = max(start - at, 0), min(start + count - at, run.count)
            if first < last:
                yield Run(run.source, run.start + first, last - first)
            at += run.count
            if at >= start + count:
                return


def whole(source: str, shape: Shape) -> Runs:
    """A tensor as it is."""
    return Runs(shape, (Run(source, 0, math.prod(shape)),))


def stacked(tensors: Sequence[Runs]) -> Runs:
    """Tensors of one shape, one after the other along a new first axis.

    Raises:
        ValueError: their shapes differ.
    """
    _same([one.shape for one in tensors])
    return Runs((len(tensors), *tensors[0].shape), _joined(run for one in tensors for run in one.runs))


def joined(tensors: Sequence[Runs], axis: int) -> Runs:
    """Tensors side by side along an axis.

    Raises:
        ValueError: their shapes differ in another axis.
    """
    _same([(*one.shape[:axis], *one.shape[axis + 1 :]) for one in tensors])
    shape = list(tensors[0].shape)
    shape[axis] = sum(one.shape[axis] for one in tensors)
    blocks = [math.prod(one.shape[axis:]) for one in tensors]
    outer = math.prod(shape[:axis])
    runs = (
        run
        for i in range(outer)
        for one, block in zip(tensors, blocks, strict=True)
        for run in one.part(i * block, block)
    )
    return Runs(tuple(shape), _joined(runs))


def split(tensor: Runs, sizes: Sequence[int], axis: int) -> list[Runs]:
    """The parts of those sizes along an axis.

    Raises:
        ValueError: the sizes do not add up.
    """
    if sum(sizes) != tensor.shape[axis]:
        raise ValueError(f"{list(sizes)} are not the parts of {tensor.shape[axis]}")
    outer, inner = math.prod(tensor.shape[:axis]), math.prod(tensor.shape[axis + 1 :])
    block = tensor.shape[axis] * inner
    parts = []
    for begin, size in zip(accumulate(sizes, initial=0), sizes, strict=False):
        runs = (run for i in range(outer) for run in tensor.part(i * block + begin * inner, size * inner))
        shape = (*tensor.shape[:axis], size, *tensor.shape[axis + 1 :])
        parts.append(Runs(shape, _joined(runs)))
    return parts


def dealt(tensor: Runs, axis: int, hands: int) -> Runs:
    """The slices along an axis in the order 0, `hands`, 2 · `hands`, …, 1, `hands` + 1, …

    Raises:
        ValueError: the axis cannot be dealt evenly.
    """
    size = tensor.shape[axis]
    if size % hands:
        raise ValueError(f"{size} cannot be dealt to {hands}")
    slices = split(tensor, [1] * size, axis)
    return joined([slices[i] for hand in range(hands) for i in range(hand, size, hands)], axis)


def _same(shapes: Sequence[Shape]) -> None:
    if len(set(shapes)) > 1:
        raise ValueError(f"the shapes {list(shapes[0])} and {list(shapes[-1])} differ")


def _joined(runs: Iterable[Run]) -> tuple[Run, ...]:
    """The runs, neighbours made one."""
    found: list[Run] = []
    for run in runs:
        last = found[-1] if found else None
        if last and last.source == run.source and last.start + last.count == run.start:
            found[-1] = Run(run.source, last.start, last.count + run.count)
        else:
            found.append(run)
    return tuple(found)
