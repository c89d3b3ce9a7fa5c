"""Breadcrumbs: leave the largest and the smallest entries of the task vectors out, add up the rest."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from mergecore import MergeMethod, hookimpl
from mergecore_plugins.methods.common import (
    BAND,
    OutlierParams,
    task_weights,
    weighted_sum_,
)

if TYPE_CHECKING:
    from mergecore import TensorGroup
    from mergecore.types import Merged


class BreadcrumbsParams(OutlierParams):
    """Parameters of `breadcrumbs`."""


def breadcrumbs(group: TensorGroup, params: BreadcrumbsParams) -> Merged:
    """B + lambda times the sum of w_i c_i (X_i - B), c_i: neither among the largest nor the smallest."""
    sparse = BAND.sparse(group, params)
    weights = task_weights(params.weight, params.normalize, params.scale)
    return group.map(lambda block: weighted_sum_(sparse(block), weights))


@hookimpl
def mergecore_merge_methods() -> Iterator[MergeMethod[Any]]:
    yield MergeMethod(
        name="breadcrumbs",
        merge=breadcrumbs,
        params=BreadcrumbsParams,
        keeps=("order",),
        result_by="map",
        summary="drop the largest and the smallest entries, add the rest",
        family="Join fine-tunes of one base",
        space="delta",
        base="required",
        paper="arXiv:2312.06795",
        formula="B + lambda sum_i w_i c_i (X_i - B), "
        "c_i = 1 for the density largest magnitudes after the gamma largest, else 0",
        example="""
            merge_method: breadcrumbs
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
