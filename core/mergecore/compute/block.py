"""A block, the stretch of a tensor that a method's function gets; and a look at what the function returns."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from mergecore.compute import philox
from mergecore.errors import PluginError


@dataclass(frozen=True)
class StreamedBlock:
    """A stretch of one tensor, the elements `start` to `stop` in C order.

    `x` is (n, m), or (n, rows, columns) when rows were asked for, in float32 or float64: the tensors, or
    their differences to the base.  It is yours: it may be overwritten, and is lost when the function returns.
    """

    index: int
    start: int
    stop: int
    x: Tensor
    original: Tensor | None
    """The base that is added back, which nothing else may write to."""
    seed: int
    name: str

    @cached_property
    def base(self) -> Tensor | None:
        """(m,) or (rows, columns); the base in delta space, else None.  A copy, made when it is asked for."""
        return None if self.original is None else self.original.clone()

    def uniform(self, i: int, purpose: str = "uniform") -> Tensor:
        """Numbers in [0, 1), one for each element, that depend on seed, tensor, model `i` and position only."""
        return self._shaped(philox.uniform(self._words(i, purpose)))

    def mask(self, i: int, probability: float, purpose: str = "mask") -> Tensor:
        """True with `probability` at each element, by the same rule as `uniform`."""
        return self._shaped(philox.mask(self._words(i, purpose), probability))

    def _words(self, i: int, purpose: str) -> philox.Words:
        return philox.random_words(
            philox.random_key(self.seed, self.name, str(i), purpose), self.start, self.stop
        )

    def _shaped(self, numbers: philox.Words | philox.Uniform | philox.Mask) -> Tensor:
        return torch.from_numpy(numbers).view(self.x.shape[1:]).to(self.x.device)


def tensor_of(result: object) -> Tensor:
    """What a function returned, which must be a tensor."""
    if not isinstance(result, Tensor):
        raise wrong(f"it returned {kind_of(result)} for a block, not a tensor")
    return result


def numbers_of(result: Tensor) -> Tensor:
    """A tensor, which must hold float32 or float64."""
    if result.dtype not in (torch.float32, torch.float64):
        raise wrong(f"it made {told(result)}; numbers of float32 or float64 are expected")
    return result


def kind_of(result: object) -> str:
    """What a value that is not a tensor is, in words."""
    return "nothing" if result is None else type(result).__name__


def told(result: Tensor) -> str:
    """Shape and dtype, in words."""
    return f"{list(result.shape)} of {str(result.dtype).removeprefix('torch.')}"


def wrong(what: str) -> PluginError:
    """The error E605 for what a method does."""
    return PluginError("E605", what)
