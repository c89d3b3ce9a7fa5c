"""Passthrough: the tensors of one model as they are, or scaled; the way to stack layers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from mergecore import Field, MergeMethod, Params, PerModel, hookimpl
from mergecore_plugins.methods.common import stacked

if TYPE_CHECKING:
    from torch import Tensor

    from mergecore import Block, TensorGroup
    from mergecore.types import FactorGroup, Merged


class PassthroughParams(Params):
    """Parameters of `passthrough`."""

    scale: PerModel[float | None] = Field(
        default=(None,), description="factor of the tensor; by default it stays as it is"
    )


def passthrough(group: TensorGroup, params: PassthroughParams) -> Merged:
    """X, or scale times X."""
    [scale] = params.scale

    def scaled(block: Block) -> Tensor:
        return block.x[0] if scale is None else block.x[0].mul_(scale)

    return group.map(scaled)


def merge_factors(group: FactorGroup, params: PassthroughParams) -> tuple[Tensor, Tensor]:
    """The same of a product."""
    [scale] = params.scale
    return stacked(group.factors, [1.0 if scale is None else scale])


@hookimpl
def mergecore_merge_methods() -> Iterator[MergeMethod[Any]]:
    yield MergeMethod(
        name="passthrough",
        merge=passthrough,
        merge_factors=merge_factors,
        params=PassthroughParams,
        result_by="map",
        summary="the tensors of one model, perhaps scaled; to stack layers",
        family="Stack layers, or keep one model",
        models=(1, 1),
        formula="scale X",
        example="""
            merge_method: passthrough
            slices:
              - sources:
                  - {model: ./a, layer_range: [0, 2]}
              - sources:
                  - {model: ./b, layer_range: [1, 3]}
            dtype: bfloat16
        """,
    )
