"""RAM: what one model alone changes is taken over whole, what several change is averaged among these."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from mergecore import Field, MergeMethod, Params, hookimpl
from mergecore_plugins.methods.common.activity import keep_active_, sum_and_count_

if TYPE_CHECKING:
    from torch import Tensor

    from mergecore import Block, TensorGroup
    from mergecore.types import Merged


class RamParams(Params):
    """Parameters of `ram`."""

    epsilon: float = Field(1e-5, ge=0, description="changes up to this count as none")


def ram(group: TensorGroup, params: RamParams) -> Merged:
    """B + the mean over those models whose change is above epsilon, element by element."""

    def merge(block: Block) -> Tensor:
        total, count = sum_and_count_(keep_active_(block.x, params.epsilon))
        return total.div_(count.clamp_(min=1))

    return group.map(merge)


@hookimpl
def mergecore_merge_methods() -> Iterator[MergeMethod[Any]]:
    yield MergeMethod(
        name="ram",
        merge=ram,
        params=RamParams,
        keeps=("order",),
        result_by="map",
        summary="changes of one model in full, shared ones averaged",
        family="Join fine-tunes of one base",
        space="delta",
        base="required",
        paper="arXiv:2601.13572",
        formula="B + sum_i a_i (X_i - B) / max(1, sum_i a_i), a_i = 1 where |X_i - B| > epsilon, else 0",
        example="""
            merge_method: ram
            base_model: ./base
            models:
              - model: ./a
              - model: ./b
            parameters: {epsilon: 1.0e-5}
            dtype: bfloat16
        """,
    )
