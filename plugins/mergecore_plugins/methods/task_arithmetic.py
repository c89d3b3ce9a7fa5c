"""Task arithmetic: the base plus a weighted sum of task vectors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from mergecore import Field, MergeMethod, hookimpl
from mergecore_plugins.methods.common import TaskVectorParams, stacked, task_weights, weighted_sum_

if TYPE_CHECKING:
    from torch import Tensor

    from mergecore import TensorGroup
    from mergecore.types import FactorGroup, Merged


class TaskArithmeticParams(TaskVectorParams):
    """Parameters of `task_arithmetic`."""

    scale: float = Field(1.0, alias="lambda", description="factor of the merged task vector")


def task_arithmetic(group: TensorGroup, params: TaskArithmeticParams) -> Merged:
    """B + lambda times the sum of w_i (X_i - B), divided by the sum of w_i when normalised."""
    weights = task_weights(params.weight, params.normalize, params.scale)
    return group.map(lambda block: weighted_sum_(block.x, weights))


def merge_factors(group: FactorGroup, params: TaskArithmeticParams) -> tuple[Tensor, Tensor]:
    """The same of products, side by side."""
    return stacked(group.factors, task_weights(params.weight, params.normalize, params.scale))


@hookimpl
def mergecore_merge_methods() -> Iterator[MergeMethod[Any]]:
    yield MergeMethod(
        name="task_arithmetic",
        merge=task_arithmetic,
        merge_factors=merge_factors,
        params=TaskArithmeticParams,
        keeps=("order",),
        result_by="map",
        summary="base plus weighted task vectors",
        family="Join fine-tunes of one base",
        space="delta",
        base="required",
        paper="arXiv:2212.04089",
        formula="B + lambda sum_i w_i (X_i - B)",
        example="""
            merge_method: task_arithmetic
            base_model: ./base
            models:
              - model: ./a
                parameters: {weight: 0.6}
              - model: ./b
                parameters: {weight: 0.4}
            parameters: {lambda: 0.8}
            dtype: bfloat16
        """,
    )
