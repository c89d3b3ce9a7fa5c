"""Kinds of layers that have factors, and what factoring one costs; for plans, so without torch."""

from __future__ import annotations

from typing import Literal, TypeAlias

FactorKind: TypeAlias = Literal["linear", "transposed", "embedding", "convolution", "experts"]
COSTLY = 256
"""The shorter side of matrices from which on a random projection may be cheaper than all singular values."""


def is_randomised(rank: int, shape: tuple[int, ...]) -> bool:
    """Whether a random projection is cheaper for a matrix than all of its singular values."""
    shorter = min(shape)
    return shorter > COSTLY and rank + max(16, rank // 2) < shorter / 2


def bytes_of(shape: tuple[int, int], rank: int, *, randomised: bool) -> int:
    """Bytes in memory while a change of that shape is decomposed, itself included."""
    m, n = shape
    if randomised:
        return min(m * n, 2**28) * 4 + 8 * 6 * (rank + max(16, rank // 2)) * (m + n)
    return m * n * (4 + 8 * 5)
