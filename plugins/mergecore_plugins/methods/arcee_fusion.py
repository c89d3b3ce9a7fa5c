"""Arcee Fusion: takes over from the other model the elements whose change matters most, by row and size."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import TYPE_CHECKING, Any

from mergecore import MergeMethod, Params, hookimpl
from mergecore_plugins.methods.common import choose_

if TYPE_CHECKING:
    from torch import Tensor

    from mergecore import Block, TensorGroup
    from mergecore.types import Merged, Step

FLOOR = 1e-8
"""Added to probabilities, so that none is 0."""


class ArceeFusionParams(Params):
    """Arcee Fusion has no parameters."""


def arcee_fusion(group: TensorGroup, params: ArceeFusionParams) -> Merged:
    """X where its importance is at least the median + 1.5 times the distance of the quartiles, else B.

    The quartiles are those of all elements, exactly.
    """
    import torch

    columns = group.shape[-1] if group.shape else 1
    divergences = torch.empty(group.count // columns, dtype=group.dtype, device=group.device)
    found: set[int] = set()
    """The blocks whose rows have their divergence; the first pass finds it."""

    def importance(block: Block) -> Tensor:
        """|X - B| times the divergence of its row (rows, columns)."""
        base, other = block.x.unbind()
        rows = divergences[block.start // columns : block.stop // columns]
        if block.index not in found:
            rows.copy_(divergence(base, other))
            found.add(block.index)
        return (other - base).abs_().mul_(rows.unsqueeze(-1))

    def merge(block: Block) -> Tensor:
        base, other = block.x.unbind()
        return choose_(importance(block).ge_(least), other, base)

    ranks = [group.count - int(part * (group.count - 1)) for part in (0.25, 0.5, 0.75)]
    low, middle, high = group.largest_of(importance, ranks, rows=True)
    least = middle + 1.5 * (high - low)
    return group.map(merge, rows=True)


def divergences_held(step: Step) -> tuple[int, int]:
    """Bytes for the divergences of the rows of a tensor: none for the run, those for each worker."""
    return 0, 8 * prod(step.shape[:-1])


def divergence(base: Tensor, other: Tensor) -> Tensor:
    """KL(P | Q) of each row (rows,), P and Q the softmax of its numbers in `other` and `base`, float64.

    It is summed as Q (r log r - (r - 1)) with r = P / Q.  As P and Q have the same sum, that is the sum of
    P log r; but no term is negative, where the usual ones cancel to a thousandth of their size.
    """
    from mergecore.compute import tree_sum

    q = base.softmax(-1).add_(FLOOR)
    ratio = other.softmax(-1).add_(FLOOR).div_(q)
    return tree_sum(ratio.log().mul_(ratio).sub_(ratio.sub_(1)).mul_(q)).clamp_(min=0)


@hookimpl
def mergecore_merge_methods() -> Iterator[MergeMethod[Any]]:
    yield MergeMethod(
        name="arcee_fusion",
        merge=arcee_fusion,
        params=ArceeFusionParams,
        result_by="rows",
        summary="the entries of the other model that matter most",
        family="Take over some entries of one other model",
        base="required",
        models=(1, 1),
        paper="Arcee, Arcee Fusion (blog), 2025",
        formula="X where s >= median(s) + 1.5 (q_3(s) - q_1(s)), else B; s = |X - B| KL(softmax(X) | softmax(B)), "
        "the softmax of each row",
        example="""
            merge_method: arcee_fusion
            base_model: ./base
            models:
              - model: ./a
            dtype: bfloat16
        """,
        reproducible="same-machine",
        input_passes=3,
        extra_memory=divergences_held,
    )
