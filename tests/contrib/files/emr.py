"""The unified task vector of EMR-Merging, arXiv:2405.17461, in the style of mergekit 0.1.4."""

from __future__ import annotations

from typing import List

import torch
from mergekit.merge_methods.easy_define import merge_method


@merge_method(name="emr")
def emr(
    tensors: List[torch.Tensor], base_tensor: torch.Tensor, weight: List[float] = 1.0, scale: float = 1.0
) -> torch.Tensor:
    """The largest change in the direction that the sum of all has."""
    deltas = torch.stack([w * (t - base_tensor) for t, w in zip(tensors, weight)])
    sign = deltas.sum(0).sign()
    agreeing = torch.where(deltas.sign() == sign, deltas.abs(), torch.zeros_like(deltas))
    return base_tensor + scale * sign * agreeing.amax(0)
