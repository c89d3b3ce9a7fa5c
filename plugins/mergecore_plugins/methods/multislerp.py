"""Multi-SLERP: the weighted mean of directions, at the weighted mean of lengths, for any number of models."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from mergecore import Field, MergeError, MergeMethod, Params, PerModel, hookimpl
from mergecore_plugins.methods.steps import check_sum, shares, weighted_sum_
from mergecore_plugins.methods.steps.sphere import lengths

if TYPE_CHECKING:
    from torch import Tensor

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
    eps: float = Field(1e-8, ge=0, description="added to lengths; a mean direction shorter than this is none")


def multislerp(group: TensorGroup, params: MultislerpParams) -> Merged:
    """The mean direction times the mean length, of the tensors, or of their differences to the base.

    Moving on from the mean direction along the tangents at it leads nowhere: they sum to 0.  So this is the
    whole method.  A lone model comes out as it is.
    """
    if group.n == 1:
        return group.map(lambda block: block.x[0])
    weights = shares(params.weight) if params.normalize_weights else params.weight
    factors = _factors(group, weights, params.eps)
    return group.map(lambda block: weighted_sum_(block.x, factors))


def _factors(group: TensorGroup, weights: Sequence[float], eps: float) -> list[float]:
    gram = group.gram()
    length = lengths(gram)
    weight = length.new_tensor(weights)
    unit = (weight / (length + eps)).masked_fill(length == 0, 0)  # of the sum of directions
    direction = _length(group, gram, unit)
    if direction > 0 and direction >= max(eps, NOISE * float(weight.abs().sum())):
        factors: list[float] = (unit * (weight @ length) / direction).tolist()
        return factors
    if group.n > 2 and bool(length.any()):
        raise MergeError(
            "E404",
            f"tensor '{group.name}': the weighted directions of the models cancel, so there is no mean of them",
            tensor=group.name,
            hint="choose other weights",
        )
    return list(weights)


def _length(group: TensorGroup, gram: Tensor, factors: Tensor) -> float:
    """The length of the sum of the inputs with `factors`."""
    from mergecore.reduction import gram as dot_products

    square = factors @ gram @ factors
    if square < (CANCELLING * factors.abs() @ lengths(gram)) ** 2:
        numbers = factors.tolist()
        square = group.reduce(lambda block: dot_products(weighted_sum_(block.x, numbers).unsqueeze(0)))
    return float(square.clamp(min=0).sqrt())


def check(params: MultislerpParams, inputs: int) -> None:
    """Raise E404 for weights that cannot be normalised."""
    if params.normalize_weights and inputs > 1:
        check_sum(params.weight, option="normalize_weights")


@hookimpl
def mergecore_merge_methods() -> Iterator[MergeMethod[Any]]:
    yield MergeMethod(
        name="multislerp",
        merge=multislerp,
        params=MultislerpParams,
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
        passes=2,
        check=check,
    )
