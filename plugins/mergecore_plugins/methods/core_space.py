"""Core Space: task vectors are merged as small matrices between the bases that their factors share."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal

from mergecore import Field, MergeMethod, hookimpl
from mergecore_plugins.methods.common import AlignedParams, Rule, left_basis, merge_parts, rank_of

if TYPE_CHECKING:
    from torch import Tensor

    from mergecore import TensorGroup
    from mergecore.types import FactorGroup, Merged, Step


class CoreSpaceParams(AlignedParams):
    """Parameters of `core_space`."""

    rule: Rule | Literal["tsv", "iso"] = Field("ties", description="how the small matrices are merged")


def core_space(group: TensorGroup, params: CoreSpaceParams) -> Merged:
    """B + lambda U merge(C_1, ..., C_n) V^T, C_i = U^T (X_i - B) V, U and V: the singular vectors of all X_i - B.

    A tensor of one axis has none: the rule merges it as it is, and tsv and iso take its mean.
    """
    x = group.x.double()
    if x.dim() < 3:
        return _vectors(x, params, group).to(group.dtype)
    matrices = list(x.flatten(2))
    u, v = left_basis(matrices), left_basis([one.T for one in matrices])
    merged = u @ _merged([u.T @ one @ v for one in matrices], params, group) @ v.T
    return merged.view(group.shape).to(group.dtype)


def merge_factors(group: FactorGroup, params: CoreSpaceParams) -> tuple[Tensor, Tensor]:
    """U C (m, k) and V^T (k, n): U are the left singular vectors of all B side by side, V of all A^T."""
    u = left_basis([b for b, _ in group.factors])
    v = left_basis([a.T for _, a in group.factors])
    cores = [(u.T @ b) @ (a @ v) for b, a in group.factors]
    return u @ _merged(cores, params, group), v.T.contiguous()


def _vectors(x: Tensor, params: CoreSpaceParams, group: TensorGroup) -> Tensor:
    if params.rule in ("tsv", "iso"):
        return _weighted(x, params).mean(0)
    return merge_parts(x, params.rule, params, group.uniform)


def _merged(cores: Sequence[Tensor], params: CoreSpaceParams, group: TensorGroup | FactorGroup) -> Tensor:
    import torch

    x = torch.stack(list(cores))
    if params.rule == "tsv":
        return _singular_vectors(_weighted(x, params))
    if params.rule == "iso":
        return _isotropic(_weighted(x, params).sum(0))
    return merge_parts(x, params.rule, params, group.uniform)


def _weighted(x: Tensor, params: CoreSpaceParams) -> Tensor:
    weights = x.new_tensor(params.weight) * params.scale
    if params.normalize and weights.sum():
        weights /= weights.sum() / params.scale
    return x * weights.view(-1, *[1] * (x.dim() - 1))


def _singular_vectors(x: Tensor) -> Tensor:
    """TSV-Merge, arXiv:2412.00081: of each matrix its share of singular vectors, which are then made orthogonal."""
    import torch

    share = max(1, min(x.shape[1:]) // len(x))
    found = []
    for one in x:
        u, s, vt = torch.linalg.svd(one, full_matrices=False)
        k = min(share, rank_of(s))
        found.append((u[:, :k], s[:k], vt[:k]))
    us, ss, vts = (
        torch.cat(each, dim) for each, dim in zip(zip(*found, strict=True), (1, 0, 0), strict=True)
    )
    return _polar(us) * ss @ _polar(vts)


def _isotropic(x: Tensor) -> Tensor:
    """Iso-C, arXiv:2502.04959: all singular values that are not 0 become the mean of all of the small matrix."""
    import torch

    u, s, vt = torch.linalg.svd(x, full_matrices=False)
    k = rank_of(s)
    even: Tensor = s[:k].sum() / max(len(s), 1) * (u[:, :k] @ vt[:k])
    return even


def _polar(x: Tensor) -> Tensor:
    """The nearest matrix with orthonormal columns, or rows, in the directions that `x` has."""
    import torch

    u, s, vt = torch.linalg.svd(x, full_matrices=False)
    k = rank_of(s)
    nearest: Tensor = u[:, :k] @ vt[:k]
    return nearest


def extra_memory(step: Step) -> tuple[int, int]:
    """Bytes of the task vectors in float64, side by side and between the bases, and of both bases."""
    entries = len(step.inputs) * math.prod(step.shape)
    sides = (step.shape[0], math.prod(step.shape[1:])) if len(step.shape) > 1 else ()
    return 0, 8 * (4 * entries + 3 * sum(side * min(side, entries // max(side, 1)) for side in sides))


@hookimpl
def mergecore_merge_methods() -> Iterator[MergeMethod[Any]]:
    yield MergeMethod(
        name="core_space",
        merge=core_space,
        merge_factors=merge_factors,
        params=CoreSpaceParams,
        summary="merge small matrices between bases that all share",
        family="Join fine-tunes of one base, in a basis that they share",
        space="delta",
        base="required",
        paper="arXiv:2509.17786",
        formula="B + lambda U merge(C_1, ..., C_n) V^T, C_i = U^T (X_i - B) V; of adapters X_i - B = B_i A_i, "
        "U: left singular vectors of [B_1 | ... | B_n], V: right singular vectors of [A_1; ...; A_n]",
        example="""
            merge_method: core_space
            base_model: ./base
            models:
              - model: ./a
                parameters: {weight: 1}
              - model: ./b
                parameters: {weight: 1}
            parameters: {rule: tsv}
            dtype: bfloat16
        """,
        reproducible="same-machine",
        needs_whole_tensors=True,
        extra_memory=extra_memory,
    )
