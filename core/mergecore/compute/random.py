"""Random numbers for tensors that are computed while they are read; methods ask their group and blocks."""

from __future__ import annotations

import torch
from torch import Tensor

from mergecore.compute.philox import random_key, random_words, uniform


def uniform_numbers(seed: int, tensor: str, purpose: str, start: int, stop: int) -> Tensor:
    """Numbers in [0, 1), float32 (stop - start,), that depend on seed, name, purpose and position only."""
    words = random_words(random_key(seed, tensor, "", purpose), start, stop)
    return torch.from_numpy(uniform(words))


def normal(uniform: Tensor) -> Tensor:
    """Standard normal numbers, float64, of uniform ones that are multiples of 2^-24."""
    numbers: Tensor = torch.special.ndtri(uniform.to(torch.float64) + 2.0**-25)
    return numbers
