"""Coefficients of a merge from the weights that users give: plain floats in, plain floats out."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite

from mergecore import MergeError


def shares(weights: Sequence[float]) -> tuple[float, ...]:
    """The weights divided by their sum; all 0 stay 0."""
    weights = _summable(weights)
    total = sum(weights) or 1.0
    return tuple(weight / total for weight in weights)


def _summable(weights: Sequence[float]) -> Sequence[float]:
    """The weights, made smaller alike where their sum is beyond all numbers."""
    if isfinite(sum(abs(weight) for weight in weights)):
        return weights
    largest = max(abs(weight) for weight in weights)
    return [weight / largest for weight in weights]


def check_sum(weights: Sequence[float], option: str | None = "normalize") -> None:
    """Raise E404 when dividing by the sum of the weights would blow up; `option` is what turns that off."""
    if weights and cancels(weights):
        raise MergeError(
            "E404",
            f"the weights sum to 0 ({', '.join(f'{weight:g}' for weight in weights)}), so they cannot be normalised",
            hint=f"change a weight, or set {option}: false" if option else "change a weight",
        )


def cancels(weights: Sequence[float]) -> bool:
    """Whether the sum of the weights is 0, or would be without rounding."""
    weights = _summable(weights)
    return abs(sum(weights)) <= 1e-9 * sum(abs(weight) for weight in weights)


def task_weights(weights: Sequence[float], normalize: bool, scale: float = 1.0) -> tuple[float, ...]:
    """Factors of the task vectors: the weights, or their shares where there are any, times `scale`."""
    divided = normalize and not cancels(weights)
    return tuple(weight * scale for weight in (shares(weights) if divided else weights))
