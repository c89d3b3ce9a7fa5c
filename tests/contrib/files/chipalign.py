"""ChipAlign, arXiv:2412.19819, in the style of mergekit 0.1.4: along the geodesic, the norm geometric."""

from typing import List

import torch
from mergekit.merge_methods.easy_define import merge_method


@merge_method(name="chipalign", pretty_name="ChipAlign", reference_url="https://arxiv.org/abs/2412.19819")
def chipalign(tensors: List[torch.Tensor], lam: float = 0.6) -> torch.Tensor:
    """Geodesic between two models, with the geometric mean of their norms."""
    a, b = tensors[0], tensors[1]
    na, nb = a.norm(), b.norm()
    cos = ((a / na) * (b / nb)).sum().clamp(-1, 1)
    angle = torch.arccos(cos)
    if angle < 1e-6:
        return a
    left = torch.sin(lam * angle) / torch.sin(angle) * (a / na)
    right = torch.sin((1 - lam) * angle) / torch.sin(angle) * (b / nb)
    return na**lam * nb ** (1 - lam) * (left + right)
