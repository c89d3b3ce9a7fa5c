"""TIES: trim task vectors to their largest entries, elect a sign, average those that agree."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from mergecore import Field, MergeMethod, hookimpl
from mergecore_plugins.methods.common import TRIM, MagnitudeParams, elect_and_sum_

if TYPE_CHECKING:
    from mergecore import TensorGroup
    from mergecore.types import Merged


class TiesParams(MagnitudeParams):
    """Parameters of `ties`."""

    normalize: bool = Field(True, description="divide by the weights of the models that agree")


def ties(group: TensorGroup, params: TiesParams) -> Merged:
    """B + lambda times the elected mean of the trimmed w_i (X_i - B)."""
    sparse = TRIM.sparse(group, params)
    return group.map(
        lambda block: elect_and_sum_(sparse(block), params.weight, params.normalize).mul_(params.scale)
    )


@hookimpl
def mergecore_merge_methods() -> Iterator[MergeMethod[Any]]:
    yield MergeMethod(
        name="ties",
        merge=ties,
        params=TiesParams,
        keeps=("order",),
        result_by="map",
        summary="trim task vectors, elect a sign, average those that agree",
        family="Join fine-tunes of one base",
        space="delta",
        base="required",
        paper="arXiv:2306.01708",
        formula="B + lambda sum_i w_i m_i trim(X_i - B) / sum_i w_i m_i, m_i: agrees with the elected sign",
        example="""
            merge_method: ties
            base_model: ./base
            models:
              - model: ./a
                parameters: {weight: 0.6, density: 0.5}
              - model: ./b
                parameters: {weight: 0.4, density: 0.5}
            dtype: bfloat16
        """,
        input_passes=3,
        check_plan=TRIM.check_plan,
        prepare=TRIM.prepare,
    )
