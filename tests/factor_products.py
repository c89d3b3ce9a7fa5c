"""Task vectors that are products of two factors, and ties of matrices by numpy, in float64."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Matrix = npt.NDArray[np.float64]


class Factors:
    """Inputs that are products."""

    name = "w"

    def __init__(self, factors: Sequence[tuple[Tensor, Tensor]]) -> None:
        self.factors = factors

    def uniform(self, count: int, purpose: str = "uniform") -> Tensor:
        return torch.rand(count, generator=torch.Generator().manual_seed(len(purpose)))


def products(*ranks: int, shape: tuple[int, int] = (24, 18)) -> list[tuple[Tensor, Tensor]]:
    random = np.random.default_rng(3)
    return [
        (
            torch.from_numpy(random.normal(size=(shape[0], r))),
            torch.from_numpy(random.normal(size=(r, shape[1]))),
        )
        for r in ranks
    ]


def ties(parts: Sequence[Matrix], densities: Sequence[float], weights: Sequence[float]) -> Matrix:
    """Trim, elect, and the weighted mean of what agrees."""
    trimmed = []
    for one, density in zip(parts, densities, strict=True):
        flat = one.ravel().copy()
        flat[np.argsort(-np.abs(flat), kind="stable")[max(1, int(density * flat.size)) :]] = 0
        trimmed.append(flat.reshape(one.shape))
    total = sum(w * one for w, one in zip(weights, trimmed, strict=True))
    positive = np.asarray(total) >= 0
    agree = [np.where(positive, one > 0, one < 0) for one in trimmed]
    upper = sum(w * one * m for w, one, m in zip(weights, trimmed, agree, strict=True))
    lower = sum(w * m for w, m in zip(weights, agree, strict=True))
    return np.asarray(np.divide(upper, lower, out=np.zeros_like(trimmed[0]), where=np.asarray(lower) != 0))
