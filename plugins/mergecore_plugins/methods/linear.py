"""Linear: the weighted average of the models (model soups)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from mergecore import Field, MergeMethod, Params, PerModel, hookimpl
from mergecore_plugins.methods.common import check_sum, shares, stacked, weighted_sum_

if TYPE_CHECKING:
    from torch import Tensor

    from mergecore import TensorGroup
    from mergecore.types import FactorGroup, Merged


class LinearParams(Params):
    """Parameters of `linear`."""

    weight: PerModel[float] = Field(description="share of the model")
    normalize: bool = Field(default=True, description="divide by the sum of the weights")


def linear(group: TensorGroup, params: LinearParams) -> Merged:
    """The sum of w_i X_i, divided by the sum of w_i when normalised."""
    weights = shares(params.weight) if params.normalize else params.weight
    return group.map(lambda block: weighted_sum_(block.x, weights))


def merge_factors(group: FactorGroup, params: LinearParams) -> tuple[Tensor, Tensor]:
    """The same of products, side by side."""
    return stacked(group.factors, shares(params.weight) if params.normalize else params.weight)


def check_params(params: LinearParams, inputs: int) -> None:
    """Raise E404 for weights that cannot be normalised."""
    if params.normalize:
        check_sum(params.weight)


@hookimpl
def mergecore_merge_methods() -> Iterator[MergeMethod[Any]]:
    yield MergeMethod(
        name="linear",
        merge=linear,
        merge_factors=merge_factors,
        params=LinearParams,
        keeps=("order",),
        result_by="map",
        summary="weighted average of the models (model soup)",
        family="Average models that are alike",
        paper="arXiv:2203.05482",
        formula="sum_i w_i X_i / sum_i w_i",
        example="""
            merge_method: linear
            models:
              - model: ./a
                parameters: {weight: 0.7}
              - model: ./b
                parameters: {weight: 0.3}
            dtype: bfloat16
        """,
        check_params=check_params,
    )
