"""The steps that merge methods are made of, as pure functions; read a method's file first, then what it uses.

Shapes: x is (n, m), n inputs of m numbers each.  Functions ending in `_` overwrite what they are given.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mergecore import MergeError

if TYPE_CHECKING:
    from torch import Tensor

    from mergecore import Block, TensorGroup
    from mergecore.selection import Cut


def shares(weights: Sequence[float]) -> tuple[float, ...]:
    """The weights divided by their sum."""
    total = sum(weights)
    return tuple(weight / total for weight in weights)


def check_sum(weights: Sequence[float]) -> None:
    """Raise E404 when dividing by the sum of the weights would blow up."""
    if weights and abs(sum(weights)) <= 1e-9 * sum(abs(weight) for weight in weights):
        raise MergeError(
            "E404",
            f"the weights sum to 0 ({', '.join(f'{weight:g}' for weight in weights)}), so they cannot be normalised",
            hint="change a weight, or set normalize: false",
        )


def weighted_sum_(x: Tensor, weights: Sequence[float]) -> Tensor:
    """The sum over i of w_i x_i (m,)."""
    total = x[0].mul_(weights[0])
    for row, weight in zip(x[1:], weights[1:], strict=True):
        total.add_(row, alpha=weight)
    return total


def trim_(block: Block, cuts: Sequence[Cut]) -> Tensor:
    """Each x_i without the magnitudes that its cut leaves out (n, m)."""
    for row, cut in zip(block.x, cuts, strict=True):
        cut.trim_(row, block.index)
    return block.x


def l1_factors(group: TensorGroup, cuts: Sequence[Cut]) -> tuple[float, ...]:
    """For each input, what restores its L1 norm after trimming; 1 where nothing is left."""
    from mergecore.reduction import tree_sum

    def norms(block: Block) -> Tensor:
        before = tree_sum(block.x.abs())
        return before.new_tensor([before.tolist(), tree_sum(trim_(block, cuts).abs_()).tolist()])

    before, after = (
        group.reduce(norms).reshape(2, -1).tolist() if group.count else ([1.0] * group.n, [1.0] * group.n)
    )
    return tuple(whole / kept if kept else 1.0 for whole, kept in zip(before, after, strict=True))


def elect_and_sum_(x: Tensor, weights: Sequence[float], normalize: bool) -> Tensor:
    """The sum over those w_i x_i whose sign is that of the whole sum, at each place (m,).

    A sum of 0 elects plus.  With `normalize` it is divided by the weights of those that agree; where these
    sum to 0, it stays undivided.
    """
    for row, weight in zip(x, weights, strict=True):
        row.mul_(weight)
    votes = x[0].double()
    for row in x[1:]:
        votes += row
    sign = (votes < 0).to(x.dtype).mul_(-2).add_(1)  # (m,), 1 or -1
    total = sign.new_zeros(sign.shape)
    agreeing = sign.new_zeros(sign.shape)
    for row, weight in zip(x, weights, strict=True):
        row.mul_(sign).clamp_(min=0)  # what disagrees becomes 0
        total.add_(row)
        if normalize:
            agreeing.add_(row.sign_(), alpha=weight)
    total.mul_(sign)
    return total.div_(agreeing.add_(agreeing == 0)) if normalize else total
