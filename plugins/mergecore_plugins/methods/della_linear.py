"""Linear DELLA: drop entries of the task vectors at random, small ones more often; rescale, add them up."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from mergecore import MergeMethod, hookimpl
from mergecore_plugins.methods.common import (
    RankParams,
    check_ranks,
    dropped_by_rank,
    task_weights,
    weighted_sum_,
)

if TYPE_CHECKING:
    from mergecore import TensorGroup
    from mergecore.types import Merged


class DellaLinearParams(RankParams):
    """Parameters of `della_linear`."""


def della_linear(group: TensorGroup, params: DellaLinearParams) -> Merged:
    """B + lambda times the sum of w_i m_i (X_i - B) / p_i, m_i random masks, p_i by rank in the row."""
    sparse = dropped_by_rank(group, params.density, params.epsilon, params.rescale)
    weights = task_weights(params.weight, params.normalize, params.scale)
    return group.map(lambda block: weighted_sum_(sparse(block), weights), rows=True)


def check_params(params: DellaLinearParams, inputs: int) -> None:
    """Raise E105 for keep probabilities outside of (0, 1)."""
    check_ranks(params.density, params.epsilon)


@hookimpl
def mergecore_merge_methods() -> Iterator[MergeMethod[Any]]:
    yield MergeMethod(
        name="della_linear",
        merge=della_linear,
        params=DellaLinearParams,
        result_by="rows",
        summary="drop at random, small entries more often; add them up",
        family="Join fine-tunes of one base, keeping a random part of each",
        space="delta",
        base="required",
        paper="arXiv:2406.11617",
        formula="B + lambda sum_i w_i m_i (X_i - B) / p_i, m_i = 1 with probability p_i, else 0; "
        "p_i = density - epsilon + 2 epsilon r / (columns - 1), r: rank of the magnitude in its row from 0",
        example="""
            merge_method: della_linear
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
