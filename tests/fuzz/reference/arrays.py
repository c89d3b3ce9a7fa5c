"""What a method of the reference takes and gives, and how numbers are rounded to the formats of files.

Read `Inputs` and `Result`; `tolerance` says how far a merged number may be from the exact one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Params = Mapping[str, Any]
"""By name: a value, or one for each model where the parameter is one per model."""

DIGITS = {"F64": (52, -1022), "F32": (23, -126), "F16": (10, -14), "BF16": (7, -126)}
"""Of each format: bits behind the leading one, and the smallest exponent."""


@dataclass(frozen=True)
class Selected:
    """What is kept of a task vector where that is decided for the whole model."""

    mask: Array
    unsure: Array
    """Entries of one size of which some are kept and some are not."""
    ratio: float
    """What restores the L1 norm of the model."""


@dataclass(frozen=True)
class Inputs:
    """The numbers of one tensor, exactly as stored, in float64."""

    name: str
    models: Sequence[Array]
    base: Array | None
    double: bool
    """Whether arithmetic is float64, since an input is."""
    seed: int = 0
    selected: Sequence[Selected] = ()

    @property
    def work(self) -> Any:
        """The number format of the arithmetic."""
        return np.float64 if self.double else np.float32

    @property
    def eps(self) -> float:
        """The distance of 1 to the next number of the arithmetic."""
        return 2.0**-52 if self.double else 2.0**-23

    @cached_property
    def origin(self) -> Array:
        """The base, else zeros."""
        return np.zeros(self.models[0].shape) if self.base is None else self.base

    @cached_property
    def deltas(self) -> list[Array]:
        """What the models add to the base, exactly."""
        return [one - self.origin for one in self.models]

    @cached_property
    def seen(self) -> list[Array]:
        """The same as the arithmetic sees it: rounded, so that comparisons and ties are exact."""
        origin = self.origin.astype(self.work)
        return [(one.astype(self.work) - origin).astype(np.float64) for one in self.models]


@dataclass(frozen=True)
class Result:
    """A merged tensor, and how sure that is."""

    value: Array
    scale: Array
    """The sum of the sizes of what was added up: rounding errors are in proportion to it."""
    other: Array | None = None
    """What is just as right, where a vote is a draw but for rounding errors."""
    unsure: Array | None = None
    """Where rounding errors decide which entries are selected."""
    hopeless: bool = False
    """Whether there is no right result, so that a merge is refused."""
    longest: float | None = None
    """Where everything is unsure: what the length of the result, without the base, is at most."""


Method = Callable[[Inputs, Params], Result]


def half_step(value: Array, dtype: str) -> Array:
    """Half the distance between the numbers of a format around each value."""
    digits, smallest = DIGITS[dtype]
    exponent = np.frexp(np.abs(value))[1] - 1
    return np.asarray(np.ldexp(0.5, np.maximum(exponent, smallest) - digits))


def tolerance(result: Result, dtype: str, eps: float, factor: float = 16.0) -> Array:
    """The largest error of each number: one rounding to `dtype`, and what arithmetic of that `eps` costs."""
    slack = factor * eps * result.scale + 2.0**-140
    return np.asarray(half_step(np.abs(result.value) + slack, dtype) + slack)


def nothing(like: Array) -> Array:
    """Unsure of no entry."""
    return np.zeros(like.shape, dtype=bool)


def dot(one: Array, two: Array) -> float:
    """The scalar product of whole tensors."""
    return float(np.sum(one.astype(np.longdouble) * two.astype(np.longdouble)))


def length(one: Array) -> float:
    """The Euclidean norm of a whole tensor."""
    return float(np.sqrt(dot(one, one)))
