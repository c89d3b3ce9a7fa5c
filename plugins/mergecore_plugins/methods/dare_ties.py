"""DARE with TIES: drop entries of the task vectors at random and rescale, elect a sign, add what agrees."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from mergecore import Field, MergeMethod, hookimpl
from mergecore_plugins.methods.common import (
    DropParams,
    dropped,
    elect_and_sum_,
)

if TYPE_CHECKING:
    from mergecore import TensorGroup
    from mergecore.types import Merged


class DareTiesParams(DropParams):
    """Parameters of `dare_ties`."""

    normalize: bool = Field(False, description="divide by the weights of the models that agree")


def dare_ties(group: TensorGroup, params: DareTiesParams) -> Merged:
    """B + lambda times the elected sum of w_i m_i (X_i - B) / density_i, m_i random masks."""
    sparse = dropped(group, params.density, params.rescale)
    return group.map(
        lambda block: elect_and_sum_(sparse(block), params.weight, params.normalize).mul_(params.scale)
    )


@hookimpl
def mergecore_merge_methods() -> Iterator[MergeMethod[Any]]:
    yield MergeMethod(
        name="dare_ties",
        merge=dare_ties,
        params=DareTiesParams,
        result_by="map",
        summary="drop entries at random, rescale, then as ties",
        family="Join fine-tunes of one base, keeping a random part of each",
        space="delta",
        base="required",
        paper="arXiv:2311.03099",
        formula="B + lambda sum_i w_i e_i m_i (X_i - B) / p_i, m_i = 1 with probability p_i (density), else 0; "
        "e_i: agrees with the elected sign",
        example="""
            merge_method: dare_ties
            base_model: ./base
            models:
              - model: ./a
                parameters: {weight: 0.6, density: 0.5}
              - model: ./b
                parameters: {weight: 0.4, density: 0.5}
            dtype: bfloat16
        """,
    )
