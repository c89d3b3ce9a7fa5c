"""KnOTS: task vectors are merged in the basis that the singular vectors of all of them share."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from mergecore import Field, MergeMethod, hookimpl
from mergecore_plugins.methods.common import AlignedParams, Rule, left_basis, merge_parts

if TYPE_CHECKING:
    from torch import Tensor

    from mergecore import TensorGroup
    from mergecore.types import FactorGroup, Merged, Step


class KnotsParams(AlignedParams):
    """Parameters of `knots`."""

    rule: Rule = Field("ties", description="how the parts of the models are merged")


def knots(group: TensorGroup, params: KnotsParams) -> Merged:
    """B + lambda U merge(P_1, ..., P_n), P_i = U^T (X_i - B), U: left singular vectors of [X_1 - B | ... | X_n - B].

    A tensor of one axis has no such vectors: the rule merges it as it is.
    """
    x = group.x.double()
    if x.dim() < 3:
        return merge_parts(x, params.rule, params, group.uniform).to(group.dtype)
    u, parts = aligned(list(x.flatten(2)))
    merged = u @ merge_parts(parts, params.rule, params, group.uniform)
    return merged.view(group.shape).to(group.dtype)


def aligned(matrices: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """The basis U (m, k) that `matrices` (m, n) share, and each in it: (count, k, n)."""
    import torch

    u = left_basis(matrices)
    return u, torch.stack([u.T @ one for one in matrices])


def merge_factors(group: FactorGroup, params: KnotsParams) -> tuple[Tensor, Tensor]:
    """U (m, k) and what the rule makes of the parts (k, n): nothing is larger than the factors side by side."""
    import torch

    q, r = torch.linalg.qr(torch.cat([b for b, _ in group.factors], dim=1))  # q (m, R)
    blocks = r.split([b.shape[1] for b, _ in group.factors], dim=1)
    small, parts = aligned([block @ a for block, (_, a) in zip(blocks, group.factors, strict=True)])
    return q @ small, merge_parts(parts, params.rule, params, group.uniform)


def extra_memory(step: Step) -> tuple[int, int]:
    """Bytes of the task vectors in float64, side by side and in the basis, and of the basis."""
    entries = len(step.inputs) * math.prod(step.shape)
    rows = step.shape[0] if len(step.shape) > 1 else 0
    return 0, 8 * (4 * entries + 3 * rows * min(rows, entries // max(rows, 1)))


@hookimpl
def mergecore_merge_methods() -> Iterator[MergeMethod[Any]]:
    yield MergeMethod(
        name="knots",
        merge=knots,
        merge_factors=merge_factors,
        params=KnotsParams,
        summary="merge in the singular basis that all task vectors share",
        family="Join fine-tunes of one base, in a basis that they share",
        space="delta",
        base="required",
        paper="arXiv:2410.19735",
        formula="B + lambda U merge(P_1, ..., P_n), P_i = S V_i^T, [X_1 - B | ... | X_n - B] = U S [V_1 | ... | V_n]^T",
        example="""
            merge_method: knots
            base_model: ./base
            models:
              - model: ./a
                parameters: {weight: 1, density: 0.5}
              - model: ./b
                parameters: {weight: 1, density: 0.5}
            parameters: {rule: ties}
            dtype: bfloat16
        """,
        reproducible="same-machine",
        needs_whole_tensors=True,
        extra_memory=extra_memory,
    )
