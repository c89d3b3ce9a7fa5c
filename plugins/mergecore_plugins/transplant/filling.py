"""Fills the rows of tokens that a model lacks, block by block; all others are copied.

Read `filled`.  A step reads beside its input, in this order: the rows of the model's own tokens, the input
again (whose known rows are those to copy), and then what the method needs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from mergecore import Block, TensorGroup
from mergecore.compute import normal
from mergecore.types import Merged
from mergecore_plugins.transplant.atoms import Atoms, combined
from mergecore_plugins.transplant.methods import FillParams
from mergecore_plugins.transplant.neighbours import WEIGHTS, nearest
from mergecore_plugins.transplant.pursuit import batch_size, pursuit, shrunk
from mergecore_plugins.transplant.statistics import covariance, mean_row, procrustes, spread

Fill: TypeAlias = Callable[[Block, int, Tensor], tuple[Tensor, Tensor]]
"""Of a block, its first row and the places (w,) in it of rows to make: these (w, columns), and which there are."""

BATCH = 64
"""Rows that are made at once; fixed, since rounding depends on it."""


def filled(group: TensorGroup, params: FillParams) -> Merged:
    """The rows of the donor's vocabulary; where the method cannot make one, it is the mean of the model's."""
    tokens, own = group.matrices[:2]
    average = mean_row(tokens)
    tokens.raise_faults()
    fill = _FILLS[params.method](group, params, average)
    copied = own.known

    def work(block: Block) -> Tensor:
        rows = block.x[0]  # (rows, columns)
        first = block.start // rows.shape[1]
        places = torch.from_numpy(np.flatnonzero(~copied[first : first + len(rows)]))
        if len(places):
            made, there = fill(block, first, places)
            made = torch.where(there[:, None], made.to(torch.float64), average)
            rows[places.to(rows.device)] = made.to(rows)
        return rows

    return group.map(work, rows=True)


# ---- without the donor -------------------------------------------------------------------------------------


def _zero(group: TensorGroup, params: FillParams, average: Tensor) -> Fill:
    def fill(block: Block, first: int, places: Tensor) -> tuple[Tensor, Tensor]:
        return torch.zeros(len(places), len(average)), torch.ones(len(places), dtype=torch.bool)

    return fill


def _mean(group: TensorGroup, params: FillParams, average: Tensor) -> Fill:
    def fill(block: Block, first: int, places: Tensor) -> tuple[Tensor, Tensor]:
        return torch.zeros(len(places), len(average)), torch.zeros(len(places), dtype=torch.bool)

    return fill


def _random(group: TensorGroup, params: FillParams, average: Tensor) -> Fill:
    width = spread(group.matrices[0], average)
    return _drawn(lambda numbers: average + width * numbers)


def _john_hewitt(group: TensorGroup, params: FillParams, average: Tensor) -> Fill:
    spread_out = covariance(group.matrices[0], average)
    ridge = 1e-9 * spread_out.diagonal().mean().clamp_min(torch.finfo(torch.float32).tiny)
    root = torch.linalg.cholesky(spread_out + ridge * torch.eye(len(average), dtype=torch.float64))
    return _drawn(lambda numbers: average + numbers @ root.T)


def _drawn(make: Callable[[Tensor], Tensor]) -> Fill:
    def fill(block: Block, first: int, places: Tensor) -> tuple[Tensor, Tensor]:
        numbers = normal(block.uniform(0, "transplant").cpu())[places]
        return make(numbers), torch.ones(len(places), dtype=torch.bool)

    return fill


def _subword(group: TensorGroup, params: FillParams, average: Tensor) -> Fill:
    """Rows of pieces stand one after the other, those of one token up to a row that is not there."""
    pieces = group.matrices[2]
    ends = np.flatnonzero(~pieces.known)
    head = group.role.startswith("head")

    def fill(block: Block, first: int, places: Tensor) -> tuple[Tensor, Tensor]:
        made = torch.zeros(len(places), len(average), dtype=torch.float64)
        there = torch.zeros(len(places), dtype=torch.bool)
        for i, place in enumerate(places.tolist()):
            begin = int(ends[first + place - 1]) + 1 if first + place else 0
            count = int(ends[first + place]) - begin
            if count:
                weights = piece_weights(params.pieces, count, head)
                made[i] = weights @ pieces.read(begin, begin + count).to(torch.float64)
                there[i] = True
        return made, there

    return fill


def piece_weights(pieces: str, count: int, head: bool) -> Tensor:
    """Weights (count,) of the pieces of one token.

    What was read last says most of a token that comes in, so an embedding looks at the end; a head has to say
    how the token begins, since the rest follows from that.
    """
    rising = torch.arange(1, count + 1, dtype=torch.float64)
    if pieces == "first_last":
        weights = (rising == (1 if head else count)).to(torch.float64)
    elif pieces == "weighted_mean":
        weights = rising.flip(0) if head else rising
    else:
        weights = torch.ones(count, dtype=torch.float64)
    return weights if pieces == "sum" else weights / weights.sum()


# ---- by the donor ------------------------------------------------------------------------------------------


def _omp(group: TensorGroup, params: FillParams, average: Tensor) -> Fill:
    mine, theirs = group.matrices[3:]
    rows, whole = mine.whole(), theirs.whole()
    origin, centre = (mean_row(theirs), mean_row(mine)) if params.center else (None, None)
    atoms = Atoms(whole, origin)

    def make(targets: Tensor) -> Tensor:
        return pursued(atoms, rows, centre, targets, params)

    return _by_donor(group, make, batch_size(params.k, atoms.rows.shape[1]))


def pursued(atoms: Atoms, rows: Tensor, centre: Tensor | None, targets: Tensor, params: FillParams) -> Tensor:
    """The rows (b, columns) that `omp` makes for rows of the donor, of those of the shared tokens.

    centre: the mean of `rows`, where `atoms` are around theirs, too.
    """
    k = min(params.k, *atoms.rows.shape)
    targets = atoms.moved(targets)
    index, weights = pursuit(atoms, targets, k)
    if params.ridge:
        weights = shrunk(atoms, index, targets, params.ridge)
    made = combined(weights, index, rows)
    if centre is not None:
        made += (1 - weights.sum(dim=1, keepdim=True)) * centre
    return made


def _common_interpolation(group: TensorGroup, params: FillParams, average: Tensor) -> Fill:
    rows, atoms = group.matrices[3].whole(), Atoms(group.matrices[4].whole())
    k, cosine = min(params.k, len(atoms)), params.metric == "cosine"

    def make(targets: Tensor) -> Tensor:
        index = nearest(atoms, targets, k, cosine)
        weights = WEIGHTS[params.weights](atoms.take(index), targets.to(torch.float64), cosine)
        return combined(weights, index, rows)

    return _by_donor(group, make, batch_size(k, atoms.rows.shape[1]))


def _landmark_pca(group: TensorGroup, params: FillParams, average: Tensor) -> Fill:
    return _by_donor(group, procrustes(group.matrices[4], group.matrices[3]), BATCH)


def _by_donor(group: TensorGroup, make: Callable[[Tensor], Tensor], batch: int) -> Fill:
    """Rows made of those of the donor; where that has none, or zero, there is none."""
    theirs = group.matrices[2]

    def fill(block: Block, first: int, places: Tensor) -> tuple[Tensor, Tensor]:
        found = theirs.read(first, first + int(places[-1]) + 1)[places]
        there = found.any(dim=1)
        made = torch.zeros(len(places), group.shape[1], dtype=torch.float64)
        if there.any():
            made[there] = torch.cat([make(part) for part in found[there].split(batch)])
        return made, there

    return fill


_FILLS: dict[str, Callable[[TensorGroup, FillParams, Tensor], Fill]] = {
    "omp": _omp,
    "common_interpolation": _common_interpolation,
    "landmark_pca": _landmark_pca,
    "subword": _subword,
    "mean": _mean,
    "zero": _zero,
    "random": _random,
    "john_hewitt": _john_hewitt,
}
