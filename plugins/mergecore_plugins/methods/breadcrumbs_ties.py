"""Breadcrumbs with TIES: leave the largest and the smallest entries out, elect a sign, add what agrees."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from mergecore import Field, MergeMethod, hookimpl
from mergecore_plugins.methods.common import (
    BAND,
    OutlierParams,
    elect_and_sum_,
)

if TYPE_CHECKING:
    from mergecore import TensorGroup
    from mergecore.types import Merged


class BreadcrumbsTiesParams(OutlierParams):
    """Parameters of `breadcrumbs_ties`."""

    normalize: bool = Field(False, description="divide by the weights of the models that agree")


def breadcrumbs_ties(group: TensorGroup, params: BreadcrumbsTiesParams) -> Merged:
    """B + lambda times the elected sum of w_i c_i (X_i - B), c_i: neither among the largest nor the smallest."""
    sparse = BAND.sparse(group, params)
    return group.map(
        lambda block: elect_and_sum_(sparse(block), params.weight, params.normalize).mul_(params.scale)
    )


@hookimpl
def mergecore_merge_methods() -> Iterator[MergeMethod[Any]]:
    yield MergeMethod(
        name="breadcrumbs_ties",
        merge=breadcrumbs_ties,
        params=BreadcrumbsTiesParams,
        keeps=("order",),
        result_by="map",
        summary="drop the largest and the smallest entries, then as ties",
        family="Join fine-tunes of one base",
        space="delta",
        base="required",
        paper="arXiv:2312.06795",
        formula="B + lambda sum_i w_i e_i c_i (X_i - B), "
        "c_i = 1 for the density largest magnitudes after the gamma largest, else 0; e_i: agrees with the elected sign",
        example="""
            merge_method: breadcrumbs_ties
            base_model: ./base
            models:
              - model: ./a
                parameters: {weight: 0.6, density: 0.8, gamma: 0.05}
              - model: ./b
                parameters: {weight: 0.4, density: 0.8, gamma: 0.05}
            dtype: bfloat16
        """,
        input_passes=3,
        check_plan=BAND.check_plan,
        prepare=BAND.prepare,
    )
