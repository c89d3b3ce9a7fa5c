"""The steps that merge methods are made of, as pure functions; read a method's file first, then what it uses.

One module for each slot: `pre` and `magnitude` make task vectors sparse, `coefficients`, `schedules` and `parameters`
turn what users write into numbers, `combine` makes one of n, `post` works on what was combined.
Functions ending in `_` overwrite what they are given.
"""

from mergecore_plugins.methods.common.coefficients import (
    check_sum,
    shares,
    task_weights,
)
from mergecore_plugins.methods.common.combine import choose_, elect_and_sum_, weighted_sum_
from mergecore_plugins.methods.common.factors import (
    AlignedParams,
    Rule,
    left_basis,
    merge_parts,
    rank_of,
    stacked,
)
from mergecore_plugins.methods.common.magnitude import BAND, TRIM, ByMagnitude
from mergecore_plugins.methods.common.parameters import (
    ConsensusParams,
    DropParams,
    Epsilon,
    Fraction,
    MagnitudeParams,
    OutlierParams,
    RankParams,
    Rescale,
    SparseParams,
    TaskVectorParams,
    Threshold,
    check_consensus,
    check_ranks,
)
from mergecore_plugins.methods.common.post import keep_consensus_
from mergecore_plugins.methods.common.pre import Sparse, dropped, dropped_by_rank, norm_matched, scaled
from mergecore_plugins.methods.common.schedules import DECAY, DECAYS, Schedule, schedule_weights

__all__ = [
    "BAND",
    "DECAY",
    "DECAYS",
    "TRIM",
    "AlignedParams",
    "ByMagnitude",
    "ConsensusParams",
    "DropParams",
    "Epsilon",
    "Fraction",
    "MagnitudeParams",
    "OutlierParams",
    "RankParams",
    "Rescale",
    "Rule",
    "Schedule",
    "Sparse",
    "SparseParams",
    "TaskVectorParams",
    "Threshold",
    "check_consensus",
    "check_ranks",
    "check_sum",
    "choose_",
    "dropped",
    "dropped_by_rank",
    "elect_and_sum_",
    "keep_consensus_",
    "left_basis",
    "merge_parts",
    "norm_matched",
    "rank_of",
    "scaled",
    "schedule_weights",
    "shares",
    "stacked",
    "task_weights",
    "weighted_sum_",
]
