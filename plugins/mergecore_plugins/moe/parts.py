"""Where the numbers of experts and routers come from: other tensors changed or joined, constants, random numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from mergecore.files import promoted
from mergecore.types import Computed, ForEach, Joined, Read, Reader, Segment, TensorData, prepared

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Changed(Computed):
    """An expert's matrix with normal noise added, and then multiplied."""

    name: str
    """What the noise depends on, beside the seed."""
    seed: int = 0
    noise: float = 0.0
    factor: float = 1.0

    def load(self, reader: Reader, start: int, stop: int, into: Tensor) -> None:
        """Fill `into` (stop - start,)."""
        from mergecore.compute import normal, uniform_numbers

        self.parts[0].load(reader, start, stop, into)
        if self.noise:
            uniform = uniform_numbers(self.seed, self.name, "noise", start, stop)
            into += (normal(uniform) * self.noise).to(into)
        into *= self.factor

    @property
    def extra_memory(self) -> tuple[int, int]:
        """The noise of a block."""
        once, each = super().extra_memory
        return once, each + (_NOISE if self.noise else 0)


_NOISE = 2**18 * (4 + 4 + 8 + 8 + 4)
"""Bytes of the words, uniform and normal numbers of a block."""


@dataclass(frozen=True)
class OfModel:
    """A tensor of another model than the step's input."""

    data: TensorData
    model: int
    """Index into the models of the plan."""

    @property
    def dtype(self) -> str:
        """That of the tensor."""
        return self.data.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        """That of the tensor."""
        return self.data.shape

    @property
    def reads(self) -> tuple[Read, ...]:
        """What the tensor reads, and of which model."""
        return tuple(Read(one, self.model if model is None else model) for one, model in self.data.reads)

    @property
    def identity(self) -> str:
        """That of the tensor."""
        return self.data.identity

    @property
    def computed(self) -> bool:
        """Whether the tensor is."""
        return self.data.computed

    @property
    def extra_memory(self) -> tuple[int, int]:
        """What the tensor keeps."""
        return self.data.extra_memory

    def prepare(self, reader: Reader, for_each: ForEach) -> TensorData:
        """The same, prepared if it needs that."""
        return replace(self, data=prepared(self.data, reader, for_each))

    def load(self, reader: Reader, start: int, stop: int, into: Tensor) -> None:
        """Fill `into` with elements of the tensor."""
        self.data.load(reader, start, stop, into)


@dataclass(frozen=True)
class Constant:
    """A tensor that has one value everywhere."""

    dtype: str
    shape: tuple[int, ...]
    value: float = 0.0

    computed = True
    extra_memory = (0, 0)
    reads = ()

    @property
    def identity(self) -> str:
        """The value."""
        return f"constant {self.value!r}"

    def load(self, reader: Reader, start: int, stop: int, into: Tensor) -> None:
        """Fill `into` with the value."""
        into.fill_(self.value)


@dataclass(frozen=True)
class Random:
    """The rows of a router that are drawn: standard normal numbers, or uniform ones in ±1/√columns."""

    dtype: str
    shape: tuple[int, int]
    mode: Literal["random", "uniform_random"]
    name: str
    seed: int

    computed = True
    extra_memory = (0, _NOISE)
    reads = ()

    @property
    def identity(self) -> str:
        """What the numbers depend on."""
        return repr((self.mode, self.name, self.seed))

    def load(self, reader: Reader, start: int, stop: int, into: Tensor) -> None:
        """Fill `into` (stop - start,)."""
        from mergecore.compute import normal, uniform_numbers

        numbers = uniform_numbers(self.seed, self.name, "gate", start, stop)
        if self.mode == "random":
            into.copy_(normal(numbers))
        else:
            into.copy_((2 * numbers.double() - 1) / math.sqrt(self.shape[1]))


def in_a_row(parts: Sequence[TensorData], shape: tuple[int, ...]) -> TensorData:
    """Tensors one behind the other, as one of the `shape`."""
    if len(parts) == 1 and parts[0].shape == shape:
        return parts[0]
    segments, at = [], 0
    for one in parts:
        count = math.prod(one.shape)
        segments.append(Segment(at, one, 0, count))
        at += count
    return Joined(promoted([one.dtype for one in parts]), shape, tuple(segments))


def side_by_side(parts: Sequence[TensorData]) -> TensorData:
    """Matrices (rows, columns) beside each other: each row is one of the first, then one of the next, …"""
    if len(parts) == 1:
        return parts[0]
    rows, at, segments = parts[0].shape[0], 0, []
    for row in range(rows):
        for one in parts:
            width = one.shape[1]
            segments.append(Segment(at, one, row * width, width))
            at += width
    columns = sum(one.shape[1] for one in parts)
    return Joined(promoted([one.dtype for one in parts]), (rows, columns), tuple(segments))
