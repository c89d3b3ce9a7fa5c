"""What the methods share: their parameters, singular vectors, the nearest orthonormal matrix, and the mean.

Matrices are float64.  A singular value that is nothing but rounding counts as 0, also in a mean, and its vectors
are left out.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, TypeAlias

from mergecore import Field, Params, PerModel

if TYPE_CHECKING:
    from torch import Tensor

    from mergecore import Block, TensorGroup
    from mergecore.types import Merged, Step

    Triplets: TypeAlias = tuple[Tensor, Tensor, Tensor]
    """Left singular vectors (m, k), singular values (k,), right singular vectors (k, n)."""

NOISE = 1e-12
"""The share of the largest singular value below which one is rounding."""

BY_MEAN = ("embed", "head")
"""Roles of the matrices whose rows are tokens; no layer multiplies by them."""


class SpectralParams(Params):
    """Parameters of all methods here."""

    weight: PerModel[float] = Field(default=(1.0,), description="factor of the model's task vector")
    spectral: bool | None = Field(
        default=None,
        description="merge matrices by their singular vectors, or by their mean; by default embeddings and heads "
        "by their mean, all others by their singular vectors",
    )
    scale: float = Field(default=1.0, alias="lambda", description="factor of the merged task vector")


def by_spectrum(one: TensorGroup | Step, params: SpectralParams) -> bool:
    """Whether a tensor is merged by its singular vectors; what is no matrix has none."""
    wanted = one.role not in BY_MEAN if params.spectral is None else params.spectral
    return wanted and len(one.shape) == 2


def mean(group: TensorGroup, params: SpectralParams) -> Merged:
    """Lambda times the mean of w_i (X_i - B), block by block."""

    def merge_block(block: Block) -> Tensor:
        weights = block.x.new_tensor(params.weight) * (params.scale / group.n)
        block.x.mul_(weights.view(-1, 1))
        total = block.x[0]
        for row in block.x[1:]:
            total.add_(row)
        return total

    return group.map(merge_block)


def task_matrices(x: Tensor, params: SpectralParams) -> Iterator[Tensor]:
    """Each w_i (X_i - B) in float64 (m, n), made when it is needed."""
    return (weight * one.double() for weight, one in zip(params.weight, x, strict=True))


def triplets(x: Tensor, most: int | None = None, noise: float | None = None) -> Triplets:
    """The singular values of `x` (m, n) that are more than `noise`, the largest first, with their vectors."""
    import torch

    u, s, vt = torch.linalg.svd(x, full_matrices=False)
    real = int((s > (NOISE * s[:1] if noise is None else noise)).sum())
    k = real if most is None else min(real, most)
    return u[:, :k].clone(), s[:k].clone(), vt[:k].clone()


def side_by_side(parts: Sequence[Triplets]) -> Triplets:
    """The triplets of several matrices as one."""
    import torch

    us, ss, vts = zip(*parts, strict=True)
    return torch.cat(us, dim=1), torch.cat(ss), torch.cat(vts)


def polar(x: Tensor) -> Tensor:
    """The matrix with orthonormal columns, or rows, that is nearest to `x`.

    Directions that `x` lacks, as when two of its columns are equal, are not made up.
    """
    u, _, vt = triplets(x)
    return u @ vt


def extra_memory(step: Step) -> tuple[int, int]:
    """Bytes of a task vector in float64, of its decomposition, and of the vectors that are kept."""
    assert isinstance(step.params, SpectralParams)
    if not by_spectrum(step, step.params):
        return 0, 0
    rank = min(step.shape)
    return 0, 8 * (6 * math.prod(step.shape) + 6 * rank * sum(step.shape) + 8 * rank**2)
