"""Where the numbers of a tensor come from, and where merged ones go."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor


class Inputs(Protocol):
    """Where the numbers come from: rows to fill, one for each input, the base last if there is one."""

    def load(self, start: int, stop: int, rows: Sequence[Tensor], check: bool = True) -> None:
        """Fill each of `rows` (m,) with the elements `start` to `stop` of one input.

        check: note what is wrong with the numbers.
        """

    def raise_faults(self) -> None:
        """Raise for what was wrong with the numbers read so far."""


class Sink(Protocol):
    """Where merged numbers go."""

    def put(self, output: int, start: int, numbers: Tensor) -> None:
        """Take the final numbers (m,) of an output, by its number, from element `start` on; from any thread."""
