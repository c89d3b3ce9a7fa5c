"""Tensors that are parts of others, or nothing but zeros, which no file holds."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mergecore.types import Joined, Read, Reader, Segment, TensorInfo

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Zeros:
    """Zeros, such as the change of a weight that an adapter leaves alone."""

    dtype: str
    shape: tuple[int, ...]

    computed = True
    identity = "zeros"
    extra_memory = (0, 0)

    @property
    def reads(self) -> tuple[Read, ...]:
        """Nothing."""
        return ()

    def load(self, reader: Reader, start: int, stop: int, into: Tensor) -> None:
        """Fill `into` with zeros."""
        into.zero_()


def part(tensor: TensorInfo, shape: tuple[int, ...], index: int = 0) -> TensorInfo:
    """Consecutive numbers of a tensor, in another shape: the part of that number."""
    if shape == tensor.shape:
        return tensor
    count = math.prod(shape)
    return TensorInfo(
        tensor.name, Joined(tensor.dtype, shape, (Segment(0, tensor.data, index * count, count),))
    )
