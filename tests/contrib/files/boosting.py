"""Subspace boosting, arXiv:2506.16506, as a group kernel of mergekit 0.1.5."""

from typing import Annotated

import torch
from mergekit.merge_methods import BasePolicy, InputContract, PerNonBase, TensorGroup, merge_method, register
from pydantic import Field


@merge_method(
    name="boosting",
    pretty_name="Subspace boosting",
    reference_url="https://arxiv.org/abs/2506.16506",
    contract=InputContract(base=BasePolicy.REQUIRED),
)
def boosting(
    group: TensorGroup,
    weight: PerNonBase[float],
    beta: Annotated[float, Field(ge=0, le=1)] = 0.01,
    scale: float = 1.0,
) -> torch.Tensor:
    base = group.base.tensor
    weights = weight.values_for(group.non_base)
    delta = sum(w * (entry.tensor - base) for w, entry in zip(weights, group.non_base))
    if delta.dim() == 2:
        u, s, vt = torch.linalg.svd(delta, full_matrices=False)
        shares = s.cumsum(0) / s.sum()
        cut = int((shares < beta).sum())
        delta = u * s.clamp(min=float(s[cut])) @ vt
    return base + scale * delta


register(boosting)
