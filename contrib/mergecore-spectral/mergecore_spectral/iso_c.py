"""Iso-C: the sum of the task vectors with all singular values replaced by their mean."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from mergecore import MergeMethod, hookimpl
from mergecore_spectral.parts import (
    SpectralParams,
    by_spectrum,
    extra_memory,
    mean,
    task_matrices,
    triplets,
)

if TYPE_CHECKING:
    from mergecore import TensorGroup
    from mergecore.types import Merged


class IsoCParams(SpectralParams):
    """Parameters of `iso_c`."""


def iso_c(group: TensorGroup, params: IsoCParams) -> Merged:
    """B + lambda mean(S) U V, where U S V is the sum of w_i (X_i - B).

    The mean is that of all min(rows, columns) singular values; those that are 0 stay 0, as their vectors are any.
    Embeddings, heads and what is no matrix get their mean.
    """
    if not by_spectrum(group, params):
        return mean(group, params)
    matrices = task_matrices(group.x, params)
    total = next(matrices)
    for one in matrices:
        total += one
    u, s, vt = triplets(total)
    middle = s.sum() / min(group.shape)
    return (params.scale * middle * (u @ vt)).to(group.dtype)


@hookimpl
def mergecore_merge_methods() -> Iterator[MergeMethod[IsoCParams]]:
    yield MergeMethod(
        name="iso_c",
        merge=iso_c,
        params=IsoCParams,
        summary="sum with equal singular values",
        family="Join fine-tunes of one base, by their singular vectors",
        space="delta",
        base="required",
        paper="arXiv:2502.04959",
        formula="B + lambda mean(S) U V, U S V = sum_i w_i (X_i - B)",
        example="""
            merge_method: iso_c
            base_model: ./base
            models:
              - model: ./a
              - model: ./b
            parameters: {lambda: 0.5}
            dtype: bfloat16
        """,
        reproducible="same-machine",
        needs_whole_tensors=True,
        extra_memory=extra_memory,
    )
