"""A row as a mean of the rows of the nearest tokens; `nearest` finds them, `WEIGHTS` says how they count."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from mergecore_plugins.transplant.atoms import Atoms

SMALLEST = 1e-6
"""The smallest distance, relative to the row: nothing is nearer than that."""


def nearest(atoms: Atoms, targets: Tensor, k: int, cosine: bool) -> Tensor:
    """The `k` atoms (b, k) nearest to each of `targets` (b, columns), by euclidean distance or by angle."""
    best = torch.empty((len(targets), 0))
    places = torch.empty((len(targets), 0), dtype=torch.int64)
    for first, chunk in atoms.chunks():
        near = targets @ chunk.T  # (b, chunk), the larger the nearer
        if cosine:
            near *= atoms.inverse_norms[first : first + len(chunk)]
        else:
            near -= atoms.norms[first : first + len(chunk)].square() / 2
        index = torch.arange(first, first + len(chunk)).expand(len(targets), -1)
        best, kept = torch.cat([best, near], dim=1).topk(min(k, places.shape[1] + len(chunk)), dim=1)
        places = torch.cat([places, index], dim=1).gather(1, kept)
    return places


def by_distance(rows: Tensor, targets: Tensor, cosine: bool) -> Tensor:
    """Weights (b, k) that are the inverse of the distance and add up to 1."""
    if cosine:
        near = torch.nn.functional.cosine_similarity(rows, targets[:, None], dim=2)
        distance, scale = 1 - near, torch.ones(len(targets), 1, dtype=rows.dtype)
    else:
        distance, scale = (rows - targets[:, None]).norm(dim=2), targets.norm(dim=1, keepdim=True)
    inverse = 1 / distance.clamp_min(SMALLEST * scale.clamp_min(torch.finfo(torch.float32).tiny))
    weights: Tensor = inverse / inverse.sum(dim=1, keepdim=True)
    return weights


def barycentric(rows: Tensor, targets: Tensor, cosine: bool) -> Tensor:
    """Weights that add up to 1 and come nearest to the row; the shortest of them where several do."""
    gram, product = _normal_equations(rows, targets)
    count, k, _ = gram.shape
    system = torch.ones((count, k + 1, k + 1), dtype=gram.dtype)
    size = gram.diagonal(dim1=1, dim2=2).mean(dim=1).clamp_min(1e-300)[:, None]
    system[:, :k, :k] = gram / size[:, :, None]
    system[:, k, k] = 0
    wanted = torch.cat([product / size, torch.ones((count, 1), dtype=gram.dtype)], dim=1)
    return _solved(system, wanted)[:, :k]


def least_squares(rows: Tensor, targets: Tensor, cosine: bool) -> Tensor:
    """Weights that come nearest to the row; the shortest of them where several do."""
    gram, product = _normal_equations(rows, targets)
    return _solved(gram, product)


WEIGHTS: dict[str, Callable[[Tensor, Tensor, bool], Tensor]] = {
    "distance": by_distance,
    "barycentric": barycentric,
    "least_squares": least_squares,
}
"""Of rows (b, k, columns) and targets (b, columns), both float64."""


def _normal_equations(rows: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    return rows @ rows.mT, (rows @ targets[:, :, None])[:, :, 0]


def _solved(system: Tensor, wanted: Tensor) -> Tensor:
    inverse: Tensor = torch.linalg.pinv(system, rtol=1e-10, hermitian=True)
    return (inverse @ wanted[:, :, None])[:, :, 0]
