"""Consensus task arithmetic: add up the task vectors, keep the places that enough of them call important."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from mergecore import MergeMethod, hookimpl
from mergecore_plugins.methods.common import (
    ConsensusParams,
    check_consensus,
    keep_consensus_,
    task_weights,
    weighted_sum_,
)

if TYPE_CHECKING:
    from torch import Tensor

    from mergecore import Block, TensorGroup
    from mergecore.types import Merged


class ConsensusTaParams(ConsensusParams):
    """Parameters of `consensus_ta`."""


def consensus_ta(group: TensorGroup, params: ConsensusTaParams) -> Merged:
    """B + the sum S of w_i d_i, d_i = X_i - B, where at least k of |d_i| > lambda_i |S - d_i| hold."""
    weights = task_weights(params.weight, params.normalize)

    def merge(block: Block) -> Tensor:
        merged = weighted_sum_(block.x.clone(), weights)
        return keep_consensus_(merged, block.x, params.threshold, params.k)

    return group.map(merge)


def check_params(params: ConsensusTaParams, inputs: int) -> None:
    """Raise E105 for more votes than models."""
    check_consensus(params.k, inputs)


@hookimpl
def mergecore_merge_methods() -> Iterator[MergeMethod[Any]]:
    yield MergeMethod(
        name="consensus_ta",
        merge=consensus_ta,
        params=ConsensusTaParams,
        keeps=("order",),
        result_by="map",
        summary="task arithmetic where enough models agree",
        family="Join fine-tunes of one base",
        space="delta",
        base="required",
        paper="arXiv:2405.07813",
        formula="B + S where at least k of |d_i| > lambda_i |S - d_i|, else B; d_i = X_i - B, S = sum_i w_i d_i",
        example="""
            merge_method: consensus_ta
            base_model: ./base
            models:
              - model: ./a
                parameters: {weight: 0.6}
              - model: ./b
                parameters: {weight: 0.4}
            parameters: {k: 2, lambda: 0.6}
            dtype: bfloat16
        """,
        check_params=check_params,
    )
