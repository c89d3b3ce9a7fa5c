"""What makes the two tensors of a step: `factor` returns both whole, `halve` scatters blocks to them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from mergecore import Block, MergeMethod, NoParams, TensorGroup
from mergecore.types import Merged

if TYPE_CHECKING:
    from torch import Tensor


def factor(group: TensorGroup, params: NoParams) -> Merged:
    u, s, v = group.x[0].svd()  # (rows, k), (k,), (columns, k)
    return u * s, v.T


def halve(group: TensorGroup, params: NoParams) -> Merged:
    def cut(block: Block) -> Iterator[tuple[int, int, Tensor]]:
        first = 0
        for output, one in enumerate(group.outputs):
            start, stop = max(block.start, first), min(block.stop, first + one.count)
            if start < stop:
                yield output, start - first, block.x[0, start - block.start : stop - block.start]
            first += one.count

    return group.scatter(cut)


METHODS = (
    MergeMethod(name="factor", merge=factor, params=NoParams, needs_whole_tensors=True),
    MergeMethod(name="halve", merge=halve, params=NoParams),
)
