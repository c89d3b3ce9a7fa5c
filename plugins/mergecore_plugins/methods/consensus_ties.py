"""Consensus TIES: a TIES merge, kept only at the places that enough of the task vectors call important."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from mergecore import Field, MergeMethod, PerModel, hookimpl
from mergecore_plugins.methods.common import (
    TRIM,
    ConsensusParams,
    Fraction,
    Rescale,
    check_consensus,
    elect_and_sum_,
    keep_consensus_,
    norm_matched,
)

if TYPE_CHECKING:
    from torch import Tensor

    from mergecore import Block, TensorGroup
    from mergecore.types import Merged


class ConsensusTiesParams(ConsensusParams):
    """Parameters of `consensus_ties`."""

    density: PerModel[Fraction] = Field(
        (1.0,), description="fraction of entries kept; 1 leaves all as they are"
    )
    normalize: bool = Field(True, description="divide by the weights of the models that agree")
    rescale: Rescale = Field(False, description="restore each task vector's L1 norm after trimming")


def consensus_ties(group: TensorGroup, params: ConsensusTiesParams) -> Merged:
    """B + the TIES merge S of d_i = X_i - B, where at least k of |d_i| > lambda_i |S - d_i| hold."""
    sparse = TRIM.in_tensor(group, params.density)
    if params.rescale:
        sparse = norm_matched(group, sparse)

    def merge(block: Block) -> Tensor:
        untrimmed = block.x.clone()
        merged = elect_and_sum_(sparse(block), params.weight, params.normalize)
        return keep_consensus_(merged, untrimmed, params.threshold, params.k)

    return group.map(merge)


def check_params(params: ConsensusTiesParams, inputs: int) -> None:
    """Raise E105 for more votes than models."""
    check_consensus(params.k, inputs)


@hookimpl
def mergecore_merge_methods() -> Iterator[MergeMethod[Any]]:
    yield MergeMethod(
        name="consensus_ties",
        merge=consensus_ties,
        params=ConsensusTiesParams,
        keeps=("order",),
        result_by="map",
        summary="ties where enough models agree",
        family="Join fine-tunes of one base",
        space="delta",
        base="required",
        paper="arXiv:2405.07813",
        formula="B + S where at least k of |d_i| > lambda_i |S - d_i|, else B; d_i = X_i - B, "
        "S = sum_i w_i e_i trim(d_i) / sum_i w_i e_i, e_i: agrees with the elected sign",
        example="""
            merge_method: consensus_ties
            base_model: ./base
            models:
              - model: ./a
                parameters: {weight: 0.6, density: 0.5}
              - model: ./b
                parameters: {weight: 0.4, density: 0.5}
            parameters: {k: 2, lambda: 0.6}
            dtype: bfloat16
        """,
        input_passes=3,
        check_params=check_params,
    )
