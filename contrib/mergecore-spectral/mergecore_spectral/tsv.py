"""TSV-Merge: of each task vector its largest singular vectors, made orthogonal to those of the others."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

from mergecore import ConfigError, Field, MergeMethod, hookimpl
from mergecore_spectral.parts import (
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


class TsvParams(SpectralParams):
    """Parameters of `tsv`."""

    share: Annotated[float, Field(gt=0, le=1)] | None = Field(
        None,
        description="fraction of the singular vectors kept of each model; by default 1 / number of models",
    )


def tsv(group: TensorGroup, params: TsvParams) -> Merged:
    """B + lambda polar(U) S polar(V), from the largest singular vectors of each w_i (X_i - B).

    Embeddings, heads and what is no matrix get their mean.
    """
    if not by_spectrum(group, params):
        return mean(group, params)
    kept = kept_of_each(min(group.shape), group.n, params.share)
    u, s, vt = side_by_side([triplets(one, kept) for one in task_matrices(group.x, params)])
    return (params.scale * (polar(u) * s @ polar(vt))).to(group.dtype)


def kept_of_each(rank: int, models: int, share: float | None) -> int:
    """How many singular vectors of each model are kept, at least one."""
    return max(1, rank // models if share is None else int(share * rank))


def check_share(params: TsvParams, models: int) -> None:
    """Raise E105 when the models would keep more vectors together than can be orthogonal."""
    if params.share is not None and params.share * models > 1 + 1e-9:
        raise ConfigError(
            "E105",
            f"share {params.share:g} of {models} models is more than all singular vectors",
            hint=f"choose a share of at most {1 / models:.4g}, or leave it out",
        )


@hookimpl
def mergecore_merge_methods() -> Iterator[MergeMethod[TsvParams]]:
    yield MergeMethod(
        name="tsv",
        merge=tsv,
        params=TsvParams,
        summary="singular vectors of each model",
        family="Join fine-tunes of one base, by their singular vectors",
        space="delta",
        base="required",
        paper="arXiv:2412.00081",
        formula="B + lambda polar(U) S polar(V), U S V: the largest singular vectors of each w_i (X_i - B)",
        example="""
            merge_method: tsv
            base_model: ./base
            models:
              - model: ./a
              - model: ./b
            dtype: bfloat16
        """,
        reproducible="same-machine",
        needs_whole_tensors=True,
        check_params=check_share,
        extra_memory=extra_memory,
    )
