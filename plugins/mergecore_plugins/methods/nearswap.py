"""NearSwap: the base, moved towards the other model by at most `t` in each element."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from mergecore import Field, MergeMethod, Params, hookimpl

if TYPE_CHECKING:
    from mergecore import TensorGroup
    from mergecore.types import Merged


class NearswapParams(Params):
    """Parameters of `nearswap`."""

    t: float = Field(gt=0, description="the largest change of an element; smaller differences are taken over")


def nearswap(group: TensorGroup, params: NearswapParams) -> Merged:
    """B + (X - B), the difference limited to -t to t."""
    return group.map(lambda block: block.x[0].clamp_(-params.t, params.t))


@hookimpl
def mergecore_merge_methods() -> Iterator[MergeMethod[Any]]:
    yield MergeMethod(
        name="nearswap",
        merge=nearswap,
        params=NearswapParams,
        result_by="map",
        summary="base plus the difference to the other model, clamped",
        family="Take over some entries of one other model",
        space="delta",
        base="required",
        models=(1, 1),
        paper="model card of QuartetAnemoi-70B-t0.0001, 2024",
        formula="B + clamp(X - B, -t, t)",
        example="""
            merge_method: nearswap
            base_model: ./base
            models:
              - model: ./a
            parameters: {t: 0.0001}
            dtype: bfloat16
        """,
    )
