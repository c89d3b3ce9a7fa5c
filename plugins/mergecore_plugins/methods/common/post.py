"""The slot *post*: what happens to the merged task vector."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def keep_consensus_(merged: Tensor, x: Tensor, thresholds: Sequence[float], k: int) -> Tensor:
    """`merged` (m,), and 0 where fewer than `k` of |x_i| > t_i |merged - x_i| hold; overwrites `x` (n, m), too."""
    votes = merged.new_zeros(merged.shape)
    for row, threshold in zip(x, thresholds, strict=True):
        others = (merged - row).abs_().mul_(threshold)
        votes += row.abs_().gt_(others)
    return merged.mul_(votes.ge_(k))
