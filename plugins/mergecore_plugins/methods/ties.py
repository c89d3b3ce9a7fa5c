"""TIES: trim task vectors to their largest entries, elect a sign, average those that agree."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, Literal

from mergecore import Field, MergeMethod, Params, PerModel, hookimpl
from mergecore_plugins.methods.steps import elect_and_sum_, l1_factors, trim_

if TYPE_CHECKING:
    from torch import Tensor

    from mergecore import Block, TensorGroup
    from mergecore.types import Merged


class TiesParams(Params):
    """Parameters of `ties`."""

    weight: PerModel[float] = Field(description="factor of the model's task vector, also in the election")
    density: PerModel[Annotated[float, Field(ge=0, le=1)]] = Field(
        default=(1.0,), description="fraction of entries kept"
    )
    normalize: bool = Field(default=True, description="divide by the weights of the models that agree")
    rescale: bool | Literal["l1"] = Field(
        default=False, description="restore each task vector's L1 norm after trimming"
    )
    scale: float = Field(default=1.0, alias="lambda", description="factor of the merged task vector")
    int8_mask: bool = Field(default=False, description="accepted for compatibility; has no effect")


def ties(group: TensorGroup, params: TiesParams) -> Merged:
    """B + lambda times the elected mean of the trimmed w_i (X_i - B)."""
    cuts = group.kth_largest_each(params.density)
    factors = l1_factors(group, cuts) if params.rescale else (1.0,) * group.n

    def merge(block: Block) -> Tensor:
        x = trim_(block, cuts)
        for row, factor in zip(x, factors, strict=True):
            if factor != 1:
                row.mul_(factor)
        return elect_and_sum_(x, params.weight, params.normalize).mul_(params.scale)

    return group.map(merge)


@hookimpl
def mergecore_merge_methods() -> Iterator[MergeMethod[Any]]:
    yield MergeMethod(
        name="ties",
        merge=ties,
        params=TiesParams,
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
        passes=3,
    )
