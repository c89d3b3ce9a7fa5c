"""Rows of routers that are vectors of prompts: the formulas that mixtures of dense models have been made with.

Read `of_states` and `of_embeddings`.  A row is the vector of the positive prompts, less that of the negative ones, over
its length.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mergecore_plugins.moe.gating.prompts import Cut

FLOOR = 1e-8
"""The least length that a vector is divided by."""


def unit(vectors: Tensor) -> Tensor:
    """Vectors (…, width) over their lengths."""
    lengths: Tensor = vectors.norm(p=2, dim=-1, keepdim=True)
    return vectors / lengths.clamp(min=FLOOR)


def of_states(states: Tensor, prompts: Sequence[Cut], experts: int) -> Tensor:
    """Rows (experts, width) in float32 of one vector for each prompt, (prompts, width): the means of each expert's."""
    wide = states.to(torch.float64)
    rows = []
    for expert in range(experts):
        row = _mean(wide, prompts, expert, negative=False)
        if any(one.expert == expert and one.negative for one in prompts):
            row = row - _mean(wide, prompts, expert, negative=True)
        rows.append(row)
    return unit(torch.stack(rows)).to(torch.float32)


def _mean(states: Tensor, prompts: Sequence[Cut], expert: int, negative: bool) -> Tensor:
    chosen = [i for i, one in enumerate(prompts) if one.expert == expert and one.negative == negative]
    return states[chosen].mean(dim=0)


def of_embeddings(embedded: Sequence[Tensor], prompts: Sequence[Cut], experts: int) -> Tensor:
    """Rows (experts, width) of the embeddings of all tokens of each prompt, (tokens, width) float32.

    The sums are those of float32 over prompts of one length, padded in front, so that other tools' rows of the same
    prompts are equal bit by bit.
    """
    rows = []
    for expert in range(experts):
        row = _summed(embedded, prompts, expert, negative=False)
        if any(one.expert == expert and one.negative for one in prompts):
            row = row - _summed(embedded, prompts, expert, negative=True)
        rows.append(unit(row))
    return torch.stack(rows)


def _summed(embedded: Sequence[Tensor], prompts: Sequence[Cut], expert: int, negative: bool) -> Tensor:
    """The sum over an expert's prompts and their tokens, over its length, (width,)."""
    own = [
        values
        for values, one in zip(embedded, prompts, strict=True)
        if one.expert == expert and one.negative == negative
    ]
    longest = max(len(values) for values in own)
    padded = torch.zeros((len(own), longest, own[0].shape[1]), dtype=torch.float32)
    for row, values in zip(padded, own, strict=True):
        row[longest - len(values) :] = values
    return unit(padded.sum(dim=1).sum(dim=0))


def centered(rows: Tensor) -> Tensor:
    """Rows (experts, width) without what all have in common, over their lengths."""
    return unit(rows - rows.mean(dim=0, keepdim=True))
