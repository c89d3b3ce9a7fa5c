"""The inputs of a tensor that is made later: stretch by stretch, whenever somebody reads it; read `DeferredGroup`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from torch import Tensor

from mergecore.compute.block import tensor_of, wrong
from mergecore.compute.group import StreamedGroup
from mergecore.errors import PluginError
from mergecore.types import Blocks

if TYPE_CHECKING:
    from mergecore.types.groups import MapBlock


class DeferredGroup(StreamedGroup):
    """A group whose method makes its earlier passes at once, and the result when it is asked for.

    That is for methods whose result is a single `map`: they say so by `result_by`.
    """

    _later: MapBlock | None = None
    _rows = False

    def map(self, merge_block: MapBlock, rows: bool = False) -> Blocks:
        """Keep the function that makes the result of a block."""
        self._check_alike("map")
        if self.finished:
            raise wrong("it makes its result twice")
        self._later, self._rows, self.finished = merge_block, rows, True
        return Blocks(-(-self.count // self._sizes(rows)[1]))

    def make(self, start: int, stop: int, check: bool, put: Callable[[int, Tensor], None]) -> None:
        """Make the blocks that hold the elements from `start` up to `stop`; from any thread.

        They are those of a group that is made at once, so the numbers are the same.  `put` takes the first element
        of each and its numbers (m,).  check: as for `Inputs.load`.
        """
        if self._later is None:
            raise _untrue()
        columns, size = self._sizes(self._rows)
        for index in range(start // size, -(-stop // size)):
            first = index * size
            end = min(first + size, self.count)
            block = self._block(index, first, end, columns if self._rows else None, check)
            put(first, self._completed(block, tensor_of(self._later(block))))


class Nobody:
    """Where results go that a method makes in another way than it says."""

    def put(self, output: int, start: int, numbers: Tensor) -> None:
        """Refuse them."""
        raise _untrue()


def _untrue() -> PluginError:
    return wrong("its result is not a `map`, as its result_by says")
