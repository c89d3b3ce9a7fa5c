"""The ways to make the row of a token that the model lacks, with their parameters and what they keep in memory.

Read `METHODS`; the arithmetic is in `filling.py`, which is imported when rows are made.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from mergecore import Field, MergeMethod, Params
from mergecore.types import Merged, Step, TensorInput

if TYPE_CHECKING:
    from mergecore import TensorGroup

Method: TypeAlias = Literal[
    "omp", "common_interpolation", "landmark_pca", "subword", "mean", "zero", "random", "john_hewitt"
]
Metric: TypeAlias = Literal["cosine", "euclidean"]
Weights: TypeAlias = Literal["distance", "barycentric", "least_squares"]
Pieces: TypeAlias = Literal["mean", "sum", "weighted_mean", "first_last"]

METHODS: dict[str, str] = {
    "omp": "a sum of `k` shared tokens, found in the space of the donor by orthogonal matching pursuit",
    "common_interpolation": "a mean of the `k` nearest shared tokens in the space of the donor",
    "landmark_pca": "the donor's row, rotated and scaled to where the shared tokens are",
    "subword": "made of the model's own rows for the pieces of the token's text",
    "mean": "the mean of all rows",
    "zero": "0",
    "random": "drawn around the mean row, as wide as the rows are",
    "john_hewitt": "drawn from the normal distribution that has the mean and covariance of the rows",
}
BY_DONOR = ("omp", "common_interpolation", "landmark_pca")
"""Methods that need the donor's embeddings."""

WORKING = 1 << 26
"""Bytes of a chunk of rows while it is computed with, temporaries included."""


class FillParams(Params):
    """How rows are made; each method uses what is meant for it."""

    method: Method = "omp"
    k: int = Field(default=64, ge=1, description="shared tokens that a row is made of")
    center: bool = Field(default=True, description="compare what is left of rows without their mean")
    ridge: float = Field(default=0.0, ge=0, description="penalty on large weights")
    metric: Metric = Field(default="cosine", description="which shared tokens are near")
    weights: Weights = Field(default="distance", description="how near ones count")
    pieces: Pieces = Field(default="mean", description="how the pieces of a token are put together")


def methods() -> tuple[MergeMethod[Any], ...]:
    """One for each of `METHODS`."""
    return tuple(
        MergeMethod(
            name=name,
            merge=_filled,
            params=FillParams,
            models=(1, 1),
            formula=text,
            reproducible="same-machine",
            extra_memory=_extra_memory,
        )
        for name, text in METHODS.items()
    )


def _filled(group: TensorGroup, params: FillParams) -> Merged:
    from mergecore_plugins.transplant.filling import filled

    return filled(group, params)


def _extra_memory(step: Step) -> tuple[int, int]:
    """Bytes kept once, and by each worker: shared rows, and what is computed of them."""
    from mergecore.files import nbytes

    assert isinstance(step.params, FillParams)
    columns = step.shape[1]
    method, k = step.params.method, step.params.k
    if method not in BY_DONOR:
        return (WORKING + 8 * 3 * columns**2 * (method == "john_hewitt"), WORKING)
    donor = step.matrices[2].shape[1]
    if method == "landmark_pca":
        return WORKING + 8 * 4 * (donor + columns) ** 2, WORKING
    landmarks: list[TensorInput] = list(step.matrices[3:])
    kept = sum(nbytes(one.tensor.dtype, one.shape) + 8 * math.prod(one.shape[:1]) for one in landmarks)
    return kept + WORKING, 2 * WORKING + 8 * 3 * max(k * columns, min(64 * k * donor, 1 << 22))
