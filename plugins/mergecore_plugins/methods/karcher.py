"""Karcher mean: the point of the sphere whose squared angles to all models sum to the least."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from mergecore import Field, MergeMethod, Params, hookimpl
from mergecore_plugins.methods.common.sphere import cosines, dot_products, lengths, sum_on_sphere_

if TYPE_CHECKING:
    from torch import Tensor

    from mergecore import TensorGroup
    from mergecore.types import Merged

CANCELLING = 1e-3
"""Below this length a mean of unit vectors is rounding noise of the dot products, and no direction."""


class KarcherParams(Params):
    """Parameters of `karcher`."""

    max_iter: int = Field(10, ge=0, description="the largest number of steps; they cost nothing")
    tol: float = Field(1e-5, gt=0, description="angles and relative lengths up to this count as 0")


def karcher(group: TensorGroup, params: KarcherParams) -> Merged:
    """The Karcher mean of the directions times the mean length of the tensors.

    Every step of the iteration is a sum of the inputs, so it is made with n factors instead of tensors.
    A lone model comes out as it is.
    """
    if group.n == 1:
        return group.map(lambda block: block.x[0])
    factors = mean(dot_products(group), params.max_iter, params.tol).tolist()
    return group.map(lambda block: sum_on_sphere_(block.x, factors))


def mean(gram: Tensor, max_iter: int, tol: float) -> Tensor:
    """Factors (n,) of vectors in their Karcher mean, from their dot products (n, n)."""
    length = lengths(gram)
    kept = length > tol * length.max().clamp(max=1)
    factors = length.new_zeros(length.shape)
    if bool(kept.any()):
        cosine = cosines(gram, length.masked_fill(~kept, 1))[kept][:, kept]
        factors[kept] = direction(cosine, max_iter, tol) / length[kept]
    return factors * length.mean()


def direction(cosine: Tensor, max_iter: int, tol: float) -> Tensor:
    """Factors (n,) of unit vectors in their Karcher mean, from the cosines between them (n, n)."""

    def norm(factors: Tensor) -> Tensor:
        return (factors @ cosine @ factors).clamp(min=0).sqrt()

    share = 1 / len(cosine)
    start = cosine.new_full((len(cosine),), share)
    if norm(start) < max(tol, CANCELLING):
        start = cosine.new_zeros(len(cosine))
        start[0] = 1
    u = start / norm(start)
    for _ in range(max_iter):
        tangent = share * tangents(cosine, u, tol)
        step = norm(tangent)
        if step < tol:
            break
        u = step.cos() * u + step.sin() / step * tangent
        u = u / norm(u)
    return u


def tangents(cosine: Tensor, u: Tensor, tol: float) -> Tensor:
    """The sum of the ways along the sphere from the point with factors `u` to each vector, as factors (n,).

    A vector opposite to the point could be reached in any direction, so it pulls in none.
    """
    to_u = (cosine @ u).clamp(-1, 1)
    angle = to_u.acos()
    sine = angle.sin()
    pull = (angle / sine).masked_fill(sine < tol, 0)
    return pull - (pull @ to_u) * u


@hookimpl
def mergecore_merge_methods() -> Iterator[MergeMethod[Any]]:
    yield MergeMethod(
        name="karcher",
        merge=karcher,
        params=KarcherParams,
        result_by="map",
        summary="mean of any number of models on the sphere",
        family="Blend models, keeping the size of their weights",
        paper="arXiv:2603.04972",
        formula="u mean_i |X_i|, u the unit vector with the least sum_i angle(u, X_i)^2",
        example="""
            merge_method: karcher
            models:
              - model: ./a
              - model: ./b
              - model: ./c
            parameters: {max_iter: 10, tol: 1.0e-5}
            dtype: bfloat16
        """,
        reproducible="same-machine",
        input_passes=2,
    )
