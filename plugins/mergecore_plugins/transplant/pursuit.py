"""Orthogonal matching pursuit: a row as a sum of a few rows of other tokens, found greedily.

Read `pursuit`, which works on many rows at once.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mergecore_plugins.transplant.atoms import Atoms

NEGLIGIBLE = 1e-6
"""What is left of an atom after projection, relative to it, below which it says nothing new."""


def batch_size(k: int, columns: int) -> int:
    """How many rows to work on at once, so that their bases take a few tens of megabytes."""
    return max(1, min(64, (1 << 22) // max(1, k * columns)))


def pursuit(atoms: Atoms, targets: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Index and weights, both (b, k), of the atoms whose sum comes near each of `targets` (b, columns).

    Each step takes the atom that has the largest cosine with what is left (atoms are compared by direction,
    whatever their norms), and makes the weights those of least squares over all that were taken.  `k` must
    not exceed the number of atoms or columns.
    """
    count, columns = targets.shape
    left = targets.to(torch.float64, copy=True)
    basis = torch.zeros((count, k, columns), dtype=torch.float64)
    triangle = torch.zeros((count, k, k), dtype=torch.float64)
    parts = torch.zeros((count, k), dtype=torch.float64)
    chosen = torch.full((count, k), -1, dtype=torch.int64)
    for step in range(k):
        chosen[:, step] = _nearest(atoms, left.to(torch.float32), chosen[:, :step])
        atom = atoms.take(chosen[:, step])  # (b, columns)
        rest, shares = _orthogonal(atom, basis[:, :step])
        norm = rest.norm(dim=1)
        new = norm > NEGLIGIBLE * atom.norm(dim=1)
        basis[:, step] = torch.where(new[:, None], rest / norm.clamp_min(1e-300)[:, None], 0.0)
        triangle[:, :step, step] = shares
        triangle[:, step, step] = torch.where(new, norm, 1.0)
        parts[:, step] = (basis[:, step] * left).sum(dim=1)
        left -= parts[:, step, None] * basis[:, step]
    weights = torch.linalg.solve_triangular(triangle, parts[:, :, None], upper=True)
    return chosen, weights[:, :, 0]


def shrunk(atoms: Atoms, index: Tensor, targets: Tensor, ridge: float) -> Tensor:
    """The weights (b, k) of the atoms at `index` that are best when their squares count, too.

    A weight counts `ridge` times the mean squared norm of the atoms, so large ones that cancel each other
    come down.
    """
    chosen = atoms.take(index)  # (b, k, columns)
    gram = chosen @ chosen.mT
    size = gram.diagonal(dim1=1, dim2=2).mean(dim=1).clamp_min(torch.finfo(torch.float32).tiny)
    gram += (ridge * size)[:, None, None] * torch.eye(index.shape[1], dtype=torch.float64)
    weights: Tensor = torch.linalg.solve(gram, chosen @ targets.to(torch.float64)[:, :, None])
    return weights[:, :, 0]


def _nearest(atoms: Atoms, left: Tensor, taken: Tensor) -> Tensor:
    """The atom (b,) of largest |cosine| with what is left (b, columns), except those taken (b, j)."""
    best = torch.full((len(left),), -1.0)
    place = torch.zeros(len(left), dtype=torch.int64)
    for first, chunk in atoms.chunks():
        products = left @ chunk.T  # (b, chunk)
        products.abs_().mul_(atoms.inverse_norms[first : first + len(chunk)])
        row, column = ((taken >= first) & (taken < first + len(chunk))).nonzero(as_tuple=True)
        products[row, taken[row, column] - first] = -1.0
        value, index = products.max(dim=1)
        better = value > best
        best = torch.where(better, value, best)
        place = torch.where(better, index + first, place)
    return place


def _orthogonal(atom: Tensor, basis: Tensor) -> tuple[Tensor, Tensor]:
    """What of each atom (b, columns) is not in its basis (b, j, columns), and its shares (b, j) there."""
    rest = atom
    shares = torch.zeros(basis.shape[:2], dtype=torch.float64)
    for _ in range(2):  # once more, for what rounding left
        more = torch.bmm(basis, rest[:, :, None])[:, :, 0]
        rest = rest - torch.bmm(more[:, None], basis)[:, 0]
        shares += more
    return rest, shares
