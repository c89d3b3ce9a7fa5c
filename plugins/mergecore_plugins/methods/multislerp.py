"""Multi-SLERP: the weighted mean of directions, at the weighted mean of lengths, for any number of models."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import fsum, sqrt
from typing import TYPE_CHECKING, Any

from mergecore import Field, MergeError, MergeMethod, Params, PerModel, hookimpl
from mergecore_plugins.methods.common import check_sum, shares, weighted_sum_
from mergecore_plugins.methods.common.sphere import dot_products, sum_on_sphere_

if TYPE_CHECKING:
    from mergecore import TensorGroup
    from mergecore.types import Merged

CANCELLING = 1e-3
"""Below this length a sum of unit vectors is rounding noise of the dot products: it is measured anew."""
NOISE = 1e-6
"""Below this length it is rounding noise of the inputs, and no direction."""


class MultislerpParams(Params):
    """Parameters of `multislerp`."""

    weight: PerModel[float] = Field(description="share of the model")
    normalize_weights: bool = Field(True, description="divide by the sum of the weights")
    eps: float = Field(
        1e-8, ge=0, description="added to lengths; a mean direction shorter than this counts as none"
    )


def multislerp(group: TensorGroup, params: MultislerpParams) -> Merged:
    """The mean direction times the mean length, of the tensors, or of their differences to the base.

    Moving on from the mean direction along the tangents at it leads nowhere: they sum to 0.  So this is the
    whole method.  A lone model comes out as it is.
    """
    if group.n == 1:
        return group.map(lambda block: block.x[0])
    weights = shares(params.weight) if params.normalize_weights else params.weight
    factors = _factors(group, weights, params.eps)
    return group.map(lambda block: sum_on_sphere_(block.x, factors))


def _factors(group: TensorGroup, weights: Sequence[float], eps: float) -> Sequence[float]:
    gram: list[list[float]] = dot_products(group).tolist()
    lengths = [sqrt(row[i]) for i, row in enumerate(gram)]
    units = [
        weight / (length + eps) if length else 0.0 for weight, length in zip(weights, lengths, strict=True)
    ]
    direction = _length(group, gram, units)  # of the sum of directions
    if direction > 0 and direction >= max(eps, NOISE * sum(map(abs, weights))):
        mean = fsum(weight * length for weight, length in zip(weights, lengths, strict=True))
        return [unit * mean / direction for unit in units]
    if group.n > 2 and any(lengths):
        raise MergeError(
            "E404",
            f"tensor '{group.name}': the weighted directions of the models cancel, so there is no mean of them",
            tensor=group.name,
            hint="choose other weights",
        )
    return weights


def _length(group: TensorGroup, gram: Sequence[Sequence[float]], factors: Sequence[float]) -> float:
    """The length of the sum of the inputs with `factors`."""
    from mergecore.compute import gram as products_of

    square = fsum(a * b * gram[i][j] for i, a in enumerate(factors) for j, b in enumerate(factors))
    whole = fsum(abs(factor) * sqrt(gram[i][i]) for i, factor in enumerate(factors))
    if square < (CANCELLING * whole) ** 2:
        square = group.reduce(
            lambda block: products_of(weighted_sum_(block.x.double(), factors).unsqueeze(0))
        ).item()
    return sqrt(max(0.0, square))


def check_params(params: MultislerpParams, inputs: int) -> None:
    """Raise E404 for weights that cannot be normalised."""
    if params.normalize_weights and inputs > 1:
        check_sum(params.weight, option="normalize_weights")


@hookimpl
def mergecore_merge_methods() -> Iterator[MergeMethod[Any]]:
    yield MergeMethod(
        name="multislerp",
        merge=multislerp,
        params=MultislerpParams,
        keeps=("order",),
        result_by="map",
        summary="weighted mean direction and length of any number of models",
        family="Blend models, keeping the size of their weights",
        space="delta",
        base="optional",
        paper="Goddard, Multi-SLERP (goddard.blog), 2025",
        formula="[B +] u / |u| sum_i w_i |X_i|, u = sum_i w_i X_i / |X_i|, w_i: weights that sum to 1 "
        "[X_i - B in place of X_i]",
        example="""
            merge_method: multislerp
            models:
              - model: ./a
                parameters: {weight: 0.5}
              - model: ./b
                parameters: {weight: 0.3}
              - model: ./c
                parameters: {weight: 0.2}
            dtype: bfloat16
        """,
        input_passes=2,
        check_params=check_params,
    )
