"""Steps on activity: which models change an element, and how many of them do.

x is (n, m), n task vectors of m numbers each; a model is active where its number is above a threshold.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def keep_active_(x: Tensor, epsilon: float) -> Tensor:
    """`x` with 0 in place of magnitudes up to `epsilon`."""
    import torch

    torch.ops.aten.hardshrink.out(x, epsilon, out=x)
    return x


def sum_and_count_(x: Tensor) -> tuple[Tensor, Tensor]:
    """The sum of those that are active, and how many there are, each (m,); then x is 1 where active, else 0."""
    total = x[0].clone()
    count = x[0].ne_(0).clone()
    for row in x[1:]:
        total.add_(row)
        count.add_(row.ne_(0))  # into floats, which takes a tenth of the time of a comparison into bools
    return total, count
