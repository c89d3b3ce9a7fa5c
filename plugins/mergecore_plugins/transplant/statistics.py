"""Means and covariances of rows, added in float64 chunk by chunk, and what is drawn or mapped by them.

Read `moments`; `procrustes` is the map between two spaces.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from mergecore_plugins.transplant.atoms import CHUNK


class Rows(Protocol):
    """A matrix that is read row by row, (rows, columns)."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows and columns."""

    def read(self, first: int, stop: int) -> Tensor:
        """The rows from `first` up to `stop`."""


def chunks(*matrices: Rows) -> Iterator[list[Tensor]]:
    """The same rows of each of several matrices of one height, in float64; chunks are of a fixed size."""
    size = max(1, CHUNK // max(1, sum(one.shape[1] for one in matrices)))
    for first in range(0, matrices[0].shape[0], size):
        stop = min(first + size, matrices[0].shape[0])
        yield [one.read(first, stop).to(torch.float64) for one in matrices]


def mean_row(rows: Rows) -> Tensor:
    """The mean of all rows, (columns,) float64; 0 where there is none."""
    total = torch.zeros(rows.shape[1], dtype=torch.float64)
    for [chunk] in chunks(rows):
        total += chunk.sum(dim=0)
    return total / max(1, rows.shape[0])


def covariance(rows: Rows, mean: Tensor) -> Tensor:
    """The covariance of the rows around their mean, (columns, columns) float64."""
    total = torch.zeros((rows.shape[1], rows.shape[1]), dtype=torch.float64)
    for [chunk] in chunks(rows):
        chunk -= mean
        total += chunk.T @ chunk
    return total / max(1, rows.shape[0])


def spread(rows: Rows, mean: Tensor) -> float:
    """The standard deviation of single numbers around the mean row."""
    total = sum(float((chunk - mean).square().sum()) for [chunk] in chunks(rows))
    return math.sqrt(total / max(1, rows.shape[0] * rows.shape[1]))


@dataclass(frozen=True)
class Map:
    """y ↦ (y - origin) matrix + goal."""

    origin: Tensor
    matrix: Tensor
    goal: Tensor

    def __call__(self, rows: Tensor) -> Tensor:
        """Rows (b, columns) of the one space as rows of the other, float64."""
        return (rows.to(torch.float64) - self.origin) @ self.matrix + self.goal


def procrustes(source: Rows, goal: Rows) -> Map:
    """The rotation, with a scale, that brings the principal parts of `source` nearest to those of `goal`.

    Row i of both is one token.  With V and W the principal directions, and U S T' the singular values of
    V' (A' P) W, A and P being the centred rows, the matrix is s V U T' W', with s = tr S / tr V' (A' A) V.
    """
    origin, centre = mean_row(source), mean_row(goal)
    own, theirs, both = (
        torch.zeros((a, b), dtype=torch.float64)
        for a, b in (
            (len(origin), len(origin)),
            (len(centre), len(centre)),
            (len(origin), len(centre)),
        )
    )
    for a, p in chunks(source, goal):
        a -= origin
        p -= centre
        own += a.T @ a
        theirs += p.T @ p
        both += a.T @ p
    q = max(1, min(len(origin), len(centre), source.shape[0] - 1))
    v, w = _principal(own, q), _principal(theirs, q)
    left, sizes, right = torch.linalg.svd(v.T @ both @ w)
    scale = sizes.sum() / (v.T @ own @ v).trace().clamp_min(1e-300)
    return Map(origin, scale * (v @ left @ right @ w.T), centre)


def _principal(gram: Tensor, q: int) -> Tensor:
    """The q directions (columns, q) of largest variance."""
    directions: Tensor = torch.linalg.eigh(gram).eigenvectors
    return directions[:, -q:]
