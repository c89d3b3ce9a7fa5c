"""The methods in numpy, written from the formulas of the papers; they share no code with the package."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Matrix: TypeAlias = npt.NDArray[np.float64]


def tsv(deltas: Sequence[Matrix], kept: int | None = None) -> Matrix:
    """The singular vectors of all, whitened: U (U' U)^(-1/2) S (V V')^(-1/2) V."""
    k = min(deltas[0].shape) // len(deltas) if kept is None else kept
    parts = [np.linalg.svd(one, full_matrices=False) for one in deltas]
    u = np.hstack([u[:, :k] for u, _, _ in parts])
    s = np.concatenate([s[:k] for _, s, _ in parts])
    v = np.vstack([v[:k] for _, _, v in parts])
    return np.asarray(u @ root(u.T @ u) @ np.diag(s) @ root(v @ v.T) @ v)


def iso_c(deltas: Sequence[Matrix]) -> Matrix:
    """(S S')^(-1/2) S, times the mean singular value, which is the trace of (S S')^(1/2) / r."""
    total = np.sum(deltas, axis=0)
    wide = total if total.shape[0] <= total.shape[1] else total.T
    found = root(wide @ wide.T) @ wide * np.sqrt(np.linalg.eigvalsh(wide @ wide.T)).mean()
    return np.asarray(found if wide is total else found.T)


def iso_cts(deltas: Sequence[Matrix], fraction: float = 0.8) -> Matrix:
    rank, models = min(deltas[0].shape), len(deltas)
    own = round((rank - int(fraction * rank)) / models)
    common = rank - own * models
    u, s, v = np.linalg.svd(np.sum(deltas, axis=0), full_matrices=False)
    us, ss, vs = [u[:, :common]], [s[:common]], [v[:common]]
    outside = np.eye(len(u)) - us[0] @ us[0].T
    for one in deltas:
        u, s, v = np.linalg.svd(outside @ one, full_matrices=False)
        us.append(u[:, :own])
        ss.append(s[:own])
        vs.append(v[:own])
    u, v = np.hstack(us), np.vstack(vs)
    return np.asarray(np.concatenate(ss).mean() * (u @ root(u.T @ u)) @ (root(v @ v.T) @ v))


def root(gram: Any) -> Matrix:
    """The inverse square root of a positive definite matrix."""
    values, vectors = np.linalg.eigh(gram)
    return np.asarray(vectors @ np.diag(values**-0.5) @ vectors.T)
