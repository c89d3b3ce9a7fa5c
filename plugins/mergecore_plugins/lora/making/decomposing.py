"""Singular values and vectors of a change of weights, exact or by random projection; read `decompose`.

The randomised one is block power iteration, after Halko, Martinsson and Tropp, arXiv:0909.4061.  The error of its
result is not an estimate: with an orthonormal basis Q, |D - Q Q' D|² is |D|² less the squares of the singular values of
Q' D.  Iteration goes on until a round betters that by less than `ENOUGH`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

ENOUGH = 1e-3
"""The share of the squared error that one more round must gain for a further one: half of it in the error."""
ROUNDS = 16
"""Rounds at most."""
FAINT = 1e-12
"""What is left of the squared length of a change, relative to it, that float32 cannot tell from nothing."""


class Change(Protocol):
    """A matrix (m, n): the difference of two weights."""

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""

    @property
    def dtype(self) -> torch.dtype:
        """That in which it is computed."""

    def squares(self) -> float:
        """The sum of the squares of all numbers."""

    def times(self, z: Tensor) -> Tensor:
        """The product with z (n, l), (m, l)."""

    def turned_times(self, q: Tensor) -> Tensor:
        """The product of the transpose with q (m, l), (n, l)."""

    def whole(self) -> Tensor:
        """All of it."""


@dataclass(frozen=True)
class Decomposition:
    """U (m, r), singular values s (r,) and V (n, r), all float64; the largest first."""

    u: Tensor
    s: Tensor
    v: Tensor

    def factors(self) -> tuple[Tensor, Tensor]:
        """U √s (m, r) and √s V' (r, n): the scale lies on both."""
        root = self.s.sqrt()
        return self.u * root, (self.v * root).T.contiguous()


def decompose(change: Change, rank: int, uniform: Callable[[int], Tensor] | None) -> Decomposition:
    """The `rank` largest singular values with their vectors.

    uniform: gives so many random numbers in [0, 1), for the randomised way; None for the exact one.
    """
    return _exact(change, rank) if uniform is None else _randomised(change, rank, uniform)


def width(rank: int, shape: tuple[int, ...]) -> int:
    """How many columns the randomised way works with."""
    return min(*shape, rank + max(16, rank // 2))


def _exact(change: Change, rank: int) -> Decomposition:
    u, s, v = torch.linalg.svd(change.whole().double(), full_matrices=False)
    return Decomposition(u[:, :rank], s[:rank], v[:rank].T)


def _randomised(change: Change, rank: int, uniform: Callable[[int], Tensor]) -> Decomposition:
    m, n = change.shape
    total, columns = change.squares(), width(rank, change.shape)
    if total == 0:
        return Decomposition(
            *(torch.zeros(size, dtype=torch.float64) for size in ((m, rank), rank, (n, rank)))
        )
    z = uniform(n * columns).view(n, columns).double() - 0.5
    before = float("inf")
    for done in range(ROUNDS):
        q = _orthonormal(change.times(_orthonormal(z).to(change.dtype)))  # (m, columns)
        z = change.turned_times(q.to(change.dtype)).double()  # (n, columns)
        left = max(0.0, total - float(torch.linalg.svdvals(torch.linalg.qr(z, "r").R)[:rank].square().sum()))
        if done and (left <= FAINT * total or before - left <= ENOUGH * left):
            break
        before = left
    basis, small = torch.linalg.qr(z)
    right, s, left_vectors = torch.linalg.svd(small)  # z = basis right s left_vectors
    return Decomposition(q @ left_vectors[:rank].T, s[:rank], basis @ right[:, :rank])


def _orthonormal(x: Tensor) -> Tensor:
    q: Tensor = torch.linalg.qr(x.double()).Q
    return q
