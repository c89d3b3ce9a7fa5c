"""DELLA: drop entries of the task vectors at random, small ones more often; elect a sign, average what agrees."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from mergecore import Field, MergeMethod, hookimpl
from mergecore_plugins.methods.common import (
    RankParams,
    check_ranks,
    dropped_by_rank,
    elect_and_sum_,
)

if TYPE_CHECKING:
    from mergecore import TensorGroup
    from mergecore.types import Merged


class DellaParams(RankParams):
    """Parameters of `della`."""

    normalize: bool = Field(True, description="divide by the weights of the models that agree")


def della(group: TensorGroup, params: DellaParams) -> Merged:
    """B + lambda times the elected mean of w_i m_i (X_i - B) / p_i, m_i random masks, p_i by rank in the row."""
    sparse = dropped_by_rank(group, params.density, params.epsilon, params.rescale)
    return group.map(
        lambda block: elect_and_sum_(sparse(block), params.weight, params.normalize).mul_(params.scale),
        rows=True,
    )


def check_params(params: DellaParams, inputs: int) -> None:
    """Raise E105 for keep probabilities outside of (0, 1)."""
    check_ranks(params.density, params.epsilon)


@hookimpl
def mergecore_merge_methods() -> Iterator[MergeMethod[Any]]:
    yield MergeMethod(
        name="della",
        merge=della,
        params=DellaParams,
        result_by="rows",
        summary="drop at random, small entries more often; then as ties",
        family="Join fine-tunes of one base, keeping a random part of each",
        space="delta",
        base="required",
        paper="arXiv:2406.11617",
        formula="B + lambda sum_i w_i e_i m_i (X_i - B) / p_i / sum_i w_i e_i, m_i = 1 with probability p_i, else 0; "
        "p_i = density - epsilon + 2 epsilon r / (columns - 1), r: rank of the magnitude in its row from 0; "
        "e_i: agrees with the elected sign",
        example="""
            merge_method: della
            base_model: ./base
            models:
              - model: ./a
                parameters: {weight: 0.6, density: 0.5, epsilon: 0.1}
              - model: ./b
                parameters: {weight: 0.4, density: 0.5, epsilon: 0.1}
            dtype: bfloat16
        """,
        check_params=check_params,
    )
