"""Methods that add up task vectors: task arithmetic, TIES, DARE, DELLA, breadcrumbs, consensus.

Read `_added`: prune each, weight, elect a sign, add, normalise, scale.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fuzz.reference.arrays import Array, Inputs, Method, Params, Result, nothing
from fuzz.reference.pruning import Pruned, at_random, by_rank, largest, middle, unpruned

Prune = Callable[[Inputs, int, Params], Pruned]


def _whole(inputs: Inputs, i: int, params: Params) -> Pruned:
    return unpruned(inputs, i)


def _added(prune: Prune, elect: bool) -> Method:
    """The method that prunes with `prune` and, if told, leaves out what disagrees with the elected sign."""

    def method(inputs: Inputs, params: Params) -> Result:
        pruned = [prune(inputs, i, params) for i in range(len(inputs.models))]
        unsure = np.any([one.unsure for one in pruned], axis=0)
        weights = np.array(params["weight"], dtype=np.float64)
        parts = np.stack([one.value for one in pruned])  # (n, *shape)
        if not elect:
            return _sum(inputs, params, parts, weights, np.ones(parts.shape, bool), unsure)
        for_plus, draw = _vote(parts, weights, inputs.eps)
        agree = np.sign(_weighted(weights, parts)) == np.where(for_plus, 1.0, -1.0)
        first = _sum(inputs, params, parts, weights, agree, unsure)
        if not draw.any():
            return first
        agree = np.sign(_weighted(weights, parts)) == np.where(for_plus ^ draw, 1.0, -1.0)
        second = _sum(inputs, params, parts, weights, agree, unsure)
        scale = np.maximum(first.scale, second.scale)
        return Result(first.value, scale, second.value, _either(first.unsure, second.unsure))

    return method


def _weighted(weights: Array, parts: Array) -> Array:
    """Each part times its weight."""
    return weights.reshape((-1,) + (1,) * (parts.ndim - 1)) * parts


def _vote(parts: Array, weights: Array, eps: float) -> tuple[Array, Array]:
    """Where plus is elected, and where rounding errors may decide otherwise.

    Two votes of the same weight and size are an exact draw in any arithmetic, and elect plus.
    """
    votes = _weighted(weights, parts)
    total = votes.sum(axis=0)
    near = np.abs(total) <= 4 * len(parts) * eps * np.abs(votes).sum(axis=0)
    sizes = np.abs(parts)
    two = ((votes != 0).sum(axis=0) == 2) & (total == 0) & bool(len(set(np.abs(weights))) == 1)
    two &= np.max(sizes, axis=0) == np.sum(sizes, axis=0) / 2
    silent = (votes == 0).all(axis=0)
    return total >= 0, near & ~two & ~silent


def _sum(inputs: Inputs, params: Params, parts: Array, weights: Array, agree: Array, unsure: Array) -> Result:
    """Base plus lambda times the weighted sum of what agrees, perhaps by the weights of that."""
    votes = _weighted(weights, parts) * agree
    mixed, size = votes.sum(axis=0), np.abs(votes).sum(axis=0)
    if params["normalize"]:
        shares = _weighted(weights, agree.astype(np.float64))
        divisor, whole = shares.sum(axis=0), np.abs(shares).sum(axis=0)
        unsure = unsure | ((np.abs(divisor) < 1e-6 * whole) & (whole > 0) & (size > 0))
        divisor = np.where(divisor == 0, 1.0, divisor)
        mixed, size = mixed / divisor, size / np.abs(divisor) * (1 + whole / np.abs(divisor))
    factor = float(params.get("lambda", 1.0))
    scale = np.abs(inputs.origin) + abs(factor) * size
    return Result(inputs.origin + factor * mixed, scale, None, unsure)


def _consensus(prune: Prune, elect: bool) -> Method:
    """As that method, but only where at least k models call the place important."""

    def method(inputs: Inputs, params: Params) -> Result:
        plain = {key: value for key, value in params.items() if key != "lambda"}
        merged = _added(prune, elect)(inputs, plain)
        total = merged.value - inputs.origin
        important = np.zeros(total.shape, dtype=int)
        unsure = nothing(total) if merged.unsure is None else merged.unsure.copy()
        if merged.other is not None:
            unsure |= merged.other != merged.value
        for delta, strict in zip(inputs.deltas, params["lambda"], strict=True):
            left, right = np.abs(delta), strict * np.abs(total - delta)
            important += left > right
            noise = 16 * inputs.eps * (left + strict * (np.abs(delta) + merged.scale))
            unsure |= (np.abs(left - right) <= noise) & ((left != 0) | (total != 0))
        value = inputs.origin + np.where(important >= params["k"], total, 0.0)
        return Result(value, merged.scale, None, unsure)

    return method


def _either(one: Array | None, two: Array | None) -> Array | None:
    """Where one of two masks is true."""
    return two if one is None else one if two is None else one | two


task_arithmetic = _added(_whole, elect=False)
ties = _added(largest, elect=True)
dare_linear = _added(at_random, elect=False)
dare_ties = _added(at_random, elect=True)
breadcrumbs = _added(middle, elect=False)
breadcrumbs_ties = _added(middle, elect=True)
della = _added(by_rank, elect=True)
della_linear = _added(by_rank, elect=False)
consensus_ta = _consensus(_whole, elect=False)
consensus_ties = _consensus(largest, elect=True)
