"""The slot *combine*: n inputs to one.  x is (n, m), n inputs of m numbers each, and is overwritten."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def weighted_sum_(x: Tensor, weights: Sequence[float]) -> Tensor:
    """The sum over i of w_i x_i (m,).

    Multiplied and added apart: machines with a fused multiply-add would round less often than others.
    """
    x.mul_(x.new_tensor(weights).view(-1, *[1] * (x.dim() - 1)))
    total = x[0]
    for row in x[1:]:
        total.add_(row)
    return total


def elect_and_sum_(x: Tensor, weights: Sequence[float], normalize: bool) -> Tensor:
    """The sum over those w_i x_i whose sign is that of the whole sum, at each place (m,).

    A sum of 0 elects plus.  With `normalize` it is divided by the weights of those that agree; where these
    sum to 0, it stays undivided.
    """
    sign = _elected_(x, weights)
    total = sign.new_zeros(sign.shape)
    agreeing = sign.new_zeros(sign.shape)
    for row, weight in zip(x, weights, strict=True):
        row.mul_(sign).clamp_(min=0)  # what disagrees becomes 0
        total.add_(row)
        if normalize:
            agreeing.add_(row.gt_(0), alpha=weight)
    total.mul_(sign)
    return total.div_(_without_zeros_(agreeing, weights)) if normalize else total


def choose_(take: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """`first` where `take` is 1 and `second` where it is 0, to the bit; three tensors of one shape, float32 or float64.

    Overwrites `first` and `take`.  Selecting by a bool mask takes five times as long.
    """
    import torch

    bits = torch.int64 if first.dtype == torch.float64 else torch.int32
    mask = take.neg_().to(bits)
    chosen, other = first.view(bits), second.view(bits)
    chosen.bitwise_xor_(other).bitwise_and_(mask).bitwise_xor_(other)
    return first


def _elected_(x: Tensor, weights: Sequence[float]) -> Tensor:
    """The sign of the sum of w_i x_i at each place (m,), 1 or -1; weighs `x`.

    Votes often cancel exactly: bf16 task vectors are multiples of few numbers.  Then it is up to rounding who
    wins, in any precision, unless the weights are binary fractions; so the votes are added as written, in the
    dtype of `x` and the order of the models, as other tools do.
    """
    votes = x[0].mul_(weights[0]).clone()
    for row, weight in zip(x[1:], weights[1:], strict=True):
        votes += row.mul_(weight)
    # a comparison into floats takes a quarter of the time of one into bools
    return votes.lt_(0).mul_(-2).add_(1)


def _without_zeros_(sums: Tensor, weights: Sequence[float]) -> Tensor:
    """The sums of weights with 1 in place of those that are 0, or would be without rounding."""
    rounding = 1e-6 * sum(abs(weight) for weight in weights)
    return sums.add_(sums.abs().le_(rounding))
