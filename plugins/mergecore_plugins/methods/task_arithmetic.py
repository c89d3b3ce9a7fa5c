"""Task arithmetic: the base plus a weighted sum of task vectors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from mergecore import Field, MergeMethod, Params, PerModel, hookimpl
from mergecore_plugins.methods.steps import check_sum, shares, weighted_sum_

if TYPE_CHECKING:
    from mergecore import TensorGroup
    from mergecore.types import Merged


class TaskArithmeticParams(Params):
    """Parameters of `task_arithmetic`."""

    weight: PerModel[float] = Field(description="factor of the model's task vector")
    normalize: bool = Field(default=False, description="divide by the sum of the weights")
    scale: float = Field(default=1.0, alias="lambda", description="factor of the merged task vector")
    int8_mask: bool = Field(default=False, description="accepted for compatibility; has no effect")


def task_arithmetic(group: TensorGroup, params: TaskArithmeticParams) -> Merged:
    """B + lambda times the sum of w_i (X_i - B), divided by the sum of w_i when normalised."""
    weights = shares(params.weight) if params.normalize else params.weight
    factors = [weight * params.scale for weight in weights]
    return group.map(lambda block: weighted_sum_(block.x, factors))


def check(params: TaskArithmeticParams, inputs: int) -> None:
    """Raise E404 for weights that cannot be normalised."""
    if params.normalize:
        check_sum(params.weight)


@hookimpl
def mergecore_merge_methods() -> Iterator[MergeMethod[Any]]:
    yield MergeMethod(
        name="task_arithmetic",
        merge=task_arithmetic,
        params=TaskArithmeticParams,
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
        check=check,
    )
