"""Rows of routers that are fitted to what routers see; read `fitted`, then `scale`.

A router has no bias and picks the largest product of a token with its rows.  So each row is the ridge regression,
without a constant, of +1 for the tokens of the expert's own prompts and -1 for those of the others, in which both sides
weigh the same.  What all tokens have in common serves as the constant.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

RIDGE = 0.3
"""How much rows are held down: the share of the mean square of a column that is added to it."""


@dataclass(frozen=True)
class Seen:
    """What the router of a layer sees of the tokens of prompts."""

    tokens: Tensor
    """(tokens, width)."""
    expert: Tensor
    """(tokens,); whose prompt a token is of."""
    negative: Tensor
    """(tokens,); whether it is of one of its negative prompts."""
    begins: Tensor
    """(tokens,); whether it stands where prompts of several experts still begin alike.

    It is fitted, too: as it is of several experts, its products come near to 0, so that none gets it alone.
    """

    def sides(self, expert: int) -> tuple[Tensor, Tensor]:
        """Which tokens an expert is for, and which it is not for; neither those another one is not for."""
        own = self.expert == expert
        return own & ~self.negative, (own & self.negative) | (~own & ~self.negative)

    def telling(self, experts: int) -> Seen:
        """The tokens of positive prompts of the first experts, without those that begin alike."""
        kept = ~self.negative & ~self.begins & (self.expert < experts)
        return Seen(self.tokens[kept], self.expert[kept], self.negative[kept], self.begins[kept])


def fitted(seen: Seen, experts: int) -> Tensor:
    """The rows of a router, (experts, width) float64, up to a common factor."""
    x = seen.tokens.to(torch.float64)
    rows = []
    for expert in range(experts):
        yes, no = seen.sides(expert)
        a, b = yes.to(torch.float64), no.to(torch.float64)
        weights = a / a.sum().clamp(min=1) + b / b.sum().clamp(min=1)  # 0 for tokens that do not matter
        rows.append(_ridge(x, weights / 2, a - b))
    return torch.stack(rows)


def _ridge(x: Tensor, weights: Tensor, target: Tensor) -> Tensor:
    """The row w (width,) that minimises the weighted squares of x w - target, and ridge times those of w."""
    roots = weights.sqrt()
    a, b = x * roots[:, None], target * roots
    count, width = a.shape
    few = count < width
    gram = a @ a.T if few else a.T @ a
    held = RIDGE * float(gram.diagonal().sum()) / width
    gram.diagonal().add_(max(held, 1e-300))
    factor = torch.linalg.cholesky(gram)
    if few:
        solved = torch.cholesky_solve(b[:, None], factor)
        return (a.T @ solved)[:, 0]
    return torch.cholesky_solve((a.T @ b)[:, None], factor)[:, 0]


# ---- how sure a router is ----------------------------------------------------------------------------------


def scale(logits: Tensor, share: float) -> float:
    """The factor of `logits` (tokens, experts) with which the largest softmax share is `share` on average.

    The share grows with the factor.  Where some tokens are equally good for several experts it may stay below; then the
    factor is the largest that is tried.
    """
    wide = logits.to(torch.float64)
    spread = float((wide.amax(dim=1) - wide.amin(dim=1)).mean())
    if spread <= 0:
        return 1.0
    low, high = 0.0, LARGEST / spread
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if top_share(wide * middle) < share else (low, middle)
    return high


LARGEST = 1e4
"""The largest mean difference of the logits of a token."""
HALVINGS = 60


def top_share(logits: Tensor) -> float:
    """The mean over tokens of the largest share of a softmax."""
    return float(logits.softmax(dim=1).amax(dim=1).mean())


def right(rows: Tensor, seen: Seen) -> float:
    """The share of tokens whose first choice is the expert they are for."""
    chosen = (seen.tokens.to(rows.dtype) @ rows.T).argmax(dim=1)
    return float((chosen == seen.expert).to(torch.float64).mean())


def condition(rows: Tensor, differences: bool = False) -> float | None:
    """The largest singular value of rows (experts, width) over the smallest; None where that is 0.

    differences: of what the rows differ by from their mean, which is all that choices depend on.  The smallest value
    is then that of the experts but one.
    """
    wide = rows.to(torch.float64)
    if not differences:
        values = torch.linalg.svdvals(wide)
    else:
        values = torch.linalg.svdvals(wide - wide.mean(dim=0))[: max(1, len(rows) - 1)]
    return float(values[0] / values[-1]) if float(values[-1]) > 0 else None


def together(
    seen: Sequence[Tensor], experts: Sequence[int], negative: Sequence[bool], common: Sequence[int]
) -> Seen:
    """The tokens of several prompts, (tokens, width) each; `common`: how many of the first begin alike."""
    counts = torch.tensor([len(one) for one in seen])
    begins = [torch.arange(len(one)) < alike for one, alike in zip(seen, common, strict=True)]
    return Seen(
        torch.cat([*seen]),
        torch.tensor([*experts]).repeat_interleave(counts),
        torch.tensor([*negative]).repeat_interleave(counts),
        torch.cat(begins),
    )
