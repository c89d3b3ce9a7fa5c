"""Iso-CTS: singular vectors of the sum of the task vectors, and of what each has beside them; all weigh the same."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

from mergecore import Field, MergeMethod, hookimpl
from mergecore_spectral.parts import (
    NOISE,
    SpectralParams,
    by_spectrum,
    extra_memory,
    mean,
    polar,
    side_by_side,
    task_matrices,
    triplets,
)

if TYPE_CHECKING:
    from mergecore import TensorGroup
    from mergecore.types import Merged


class IsoCtsParams(SpectralParams):
    """Parameters of `iso_cts`."""

    common: Annotated[float, Field(ge=0, le=1)] = Field(
        default=0.8,
        description="fraction of the singular vectors taken from the sum; the models share the rest",
    )


def iso_cts(group: TensorGroup, params: IsoCtsParams) -> Merged:
    """B + lambda mean(S) polar(U) polar(V): some singular vectors of the sum, some of what each model has beside them.

    The mean is that of min(rows, columns) singular values; where there are fewer, the others count as 0.
    Embeddings, heads and what is no matrix get their mean.
    """
    if not by_spectrum(group, params):
        return mean(group, params)
    x = group.x
    common, own = counts(min(group.shape), group.n, params.common)
    total = sum(task_matrices(x, params), start=x.new_zeros(group.shape).double())
    shared = triplets(total, common)
    directions = shared[0]
    parts = []
    for one in task_matrices(x, params):
        beside = one - directions @ (directions.T @ one)
        parts.append(triplets(beside, own, noise=NOISE * float(one.norm())))
    u, s, vt = side_by_side([*parts, shared])
    middle = s.sum() / min(group.shape)
    return (params.scale * middle * (polar(u) @ polar(vt))).to(group.dtype)


def counts(rank: int, models: int, common: float) -> tuple[int, int]:
    """How many singular vectors the sum gives, and how many each model: as many together as there are."""
    own = min(round((rank - int(common * rank)) / models), rank // models)
    return rank - own * models, own


@hookimpl
def mergecore_merge_methods() -> Iterator[MergeMethod[IsoCtsParams]]:
    yield MergeMethod(
        name="iso_cts",
        merge=iso_cts,
        params=IsoCtsParams,
        summary="iso_c plus directions of each",
        family="Join fine-tunes of one base, by their singular vectors",
        space="delta",
        base="required",
        paper="arXiv:2502.04959",
        formula="B + lambda mean(S) polar(U) polar(V), U S V: the largest singular vectors of sum_i w_i (X_i - B), "
        "and of each w_i (X_i - B) without the directions of these",
        example="""
            merge_method: iso_cts
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
