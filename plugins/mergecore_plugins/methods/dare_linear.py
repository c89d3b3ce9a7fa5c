"""DARE: drop entries of the task vectors at random, make up for it by rescaling, add them up."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from mergecore import MergeMethod, hookimpl
from mergecore_plugins.methods.common import (
    DropParams,
    dropped,
    task_weights,
    weighted_sum_,
)

if TYPE_CHECKING:
    from mergecore import TensorGroup
    from mergecore.types import Merged


class DareLinearParams(DropParams):
    """Parameters of `dare_linear`."""


def dare_linear(group: TensorGroup, params: DareLinearParams) -> Merged:
    """B + lambda times the sum of w_i m_i (X_i - B) / density_i, m_i random masks."""
    sparse = dropped(group, params.density, params.rescale)
    weights = task_weights(params.weight, params.normalize, params.scale)
    return group.map(lambda block: weighted_sum_(sparse(block), weights))


@hookimpl
def mergecore_merge_methods() -> Iterator[MergeMethod[Any]]:
    yield MergeMethod(
        name="dare_linear",
        merge=dare_linear,
        params=DareLinearParams,
        result_by="map",
        summary="drop entries at random, rescale, add them up",
        family="Join fine-tunes of one base, keeping a random part of each",
        space="delta",
        base="required",
        paper="arXiv:2311.03099",
        formula="B + lambda sum_i w_i m_i (X_i - B) / p_i, m_i = 1 with probability p_i (density), else 0",
        example="""
            merge_method: dare_linear
            base_model: ./base
            models:
              - model: ./a
                parameters: {weight: 0.6, density: 0.5}
              - model: ./b
                parameters: {weight: 0.4, density: 0.5}
            dtype: bfloat16
        """,
    )
