"""Averages, and methods with rules of their own: model stock, SCE, RAM, nearswap, Arcee fusion."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np

from fuzz.reference.arrays import Array, Inputs, Params, Result, nothing
from fuzz.reference.pruning import by_size, marked


def linear(inputs: Inputs, params: Params) -> Result:
    """The weighted average, or sum."""
    weights = np.array(params["weight"], dtype=np.float64)
    divisor = weights.sum() if params["normalize"] else 1.0
    terms = [w / divisor * x for w, x in zip(weights, inputs.models, strict=True)]
    return Result(np.sum(terms, axis=0), np.sum(np.abs(terms), axis=0))


def average(inputs: Inputs, params: Params) -> Result:
    """Model after model: the mean so far, a part of the way, or the change scaled by what is left of the decay."""
    total, size = np.zeros_like(inputs.models[0]), np.zeros_like(inputs.models[0])
    for i, model in enumerate(inputs.models):
        before = inputs.models[max(0, i - 1)]
        match params["schedule"]:
            case "uniform":
                total = total + (model - total) / (i + 1)
            case "ema":
                total = params["decay"] * total + (1 - params["decay"]) * model if i else model
            case "linear":
                total = total + (1 - i / len(inputs.models)) * (model - before) if i else model
            case _:
                total = total + (1 - np.sqrt(i / len(inputs.models))) * (model - before) if i else model
        size = size + np.abs(model)
    return Result(total, size)


def passthrough(inputs: Inputs, params: Params) -> Result:
    """The tensor itself, perhaps scaled."""
    [only], scale = inputs.models, params["scale"][0]
    value = only if scale is None else scale * only
    return Result(value, np.zeros(value.shape) if scale is None else np.abs(value))


def model_stock(inputs: Inputs, params: Params) -> Result:
    """The mean, drawn to the base by the mean cosine of the task vectors, of the whole or of each row."""
    deltas = np.stack(inputs.deltas)
    n, shape = len(deltas), inputs.origin.shape
    by_row = params["filter_wise"] and len(shape) > 0
    rows = deltas.reshape(n, -1, shape[-1]) if by_row else deltas.reshape(n, 1, -1)
    cosines = [_cosines(rows[i], rows[j]) for i, j in combinations(range(n), 2)]
    cosine = np.mean(cosines, axis=0)  # (rows, 1)
    below = 1 + (n - 1) * cosine
    t = np.where(below > 0, n * cosine / np.where(below > 0, below, 1.0), 0.0)
    t = np.clip(t, 0.0, 1.0)
    value = (t * rows.mean(axis=0)).reshape(shape)
    scale = np.abs(rows).mean(axis=0).reshape(shape)
    return Result(inputs.origin + value, np.abs(inputs.origin) + n * scale)


def _cosines(one: Array, two: Array) -> Array:
    """Of each row of both, 0 where one is zero."""
    norms = np.linalg.norm(one, axis=1) * np.linalg.norm(two, axis=1)
    found = (one * two).sum(axis=1) / np.where(norms == 0, 1.0, norms)
    return np.asarray(np.clip(found, -1.0, 1.0)[:, None])


def sce(inputs: Inputs, params: Params) -> Result:
    """Select where models differ most, weight by energy, erase the minority."""
    seen, deltas = np.stack(inputs.seen), np.stack(inputs.deltas)
    unsure = nothing(inputs.origin)
    if params["select_topk"] < 1:
        mask, near = _varied(seen, params["select_topk"], inputs.eps)
        deltas = deltas * mask
        unsure = unsure | near
    energy = np.array([np.square(one).sum() for one in deltas])
    n = len(deltas)
    shares = energy / energy.sum() if energy.sum() > 0 else np.full(n, 1.0 / n)
    total = deltas.sum(axis=0)
    agree = np.sign(deltas) == np.where(total >= 0, 1.0, -1.0)
    near = np.abs(total) <= 4 * n * inputs.eps * np.abs(deltas).sum(axis=0)
    two = ((deltas != 0).sum(axis=0) <= 2) & (total == 0)
    first = _erased(inputs, deltas, shares, agree)
    second = _erased(inputs, deltas, shares, agree ^ (near & ~two))
    return Result(first.value, np.maximum(first.scale, second.scale), second.value, unsure)


def _erased(inputs: Inputs, deltas: Array, shares: Array, agree: Array) -> Result:
    """The average of what agrees, by shares; damped where these sum to less than a millionth."""
    kept = shares.reshape((-1,) + (1,) * (deltas.ndim - 1)) * agree
    divisor = kept.sum(axis=0)
    divisor = np.maximum(divisor, 1e-6)
    value = inputs.origin + (deltas * kept).sum(axis=0) / divisor
    scale = np.abs(inputs.origin) + 2 * (np.abs(deltas) * kept).sum(axis=0) / divisor
    return Result(value, scale)


def _varied(seen: Array, fraction: float, eps: float) -> tuple[Array, Array]:
    """The places where models vary most; and all of them where it is rounding errors that choose."""
    same = (seen == seen[0]).all(axis=0)
    variance = np.where(same, 0.0, seen.var(axis=0))
    count = int(np.count_nonzero(variance) * fraction)
    order = by_size(variance)
    mask = marked(order[:count], variance.shape)
    if count in (0, variance.size):
        return mask, nothing(mask)
    edge = variance.reshape(-1)[order[count - 1 : count + 1]]
    noise = 64 * eps * np.square(seen).max(axis=0).reshape(-1)
    near = (np.abs(variance.reshape(-1) - edge[0]) <= noise) | (
        np.abs(variance.reshape(-1) - edge[1]) <= noise
    )
    near &= ~same.reshape(-1)
    doubt = near[order[:count]].any() and near[order[count:]].any()
    return mask, np.full(mask.shape, doubt)


def _active(inputs: Inputs, epsilon: float) -> tuple[Array, Array]:
    """What counts as changed, and where that hangs on rounding errors."""
    seen = np.stack(inputs.seen)
    near = np.abs(np.abs(seen) - epsilon) <= 2 * inputs.eps * epsilon
    return np.abs(seen) > epsilon, near.any(axis=0) & bool(epsilon)


def ram(inputs: Inputs, params: Params) -> Result:
    """Changes of one model in full, those of several averaged among these."""
    return _reinforced(inputs, params, [1.0] * len(inputs.models))


def ramplus_tl(inputs: Inputs, params: Params) -> Result:
    """The same, changes of one model amplified by how much it shares."""
    active, near = _active(inputs, params["epsilon"])
    several = active.sum(axis=0) > 1
    factors = []
    for mine in active:
        shared, unique = (mine & several).sum(), (mine & ~several).sum()
        ratio = shared / max(float(unique), params["epsilon"], 1e-300)
        factors.append(1 + params["r"] * min(ratio, params["alpha"]))
    result = _reinforced(inputs, params, factors)
    doubt = near | bool(near.any())
    return Result(result.value, result.scale, None, doubt)


def _reinforced(inputs: Inputs, params: Params, factors: list[Any]) -> Result:
    """The average of active entries; a lone one times the factor of its model."""
    active, near = _active(inputs, params["epsilon"])
    count = active.sum(axis=0)
    value = np.zeros(inputs.origin.shape)
    for mine, delta, factor in zip(active, inputs.deltas, factors, strict=True):
        value = value + delta * mine * np.where(count == 1, factor, 1.0) / np.maximum(count, 1)
    scale = np.abs(inputs.origin) + np.abs(np.stack(inputs.deltas)).sum(axis=0) * max(map(abs, factors))
    return Result(inputs.origin + value, scale, None, near)


def nearswap(inputs: Inputs, params: Params) -> Result:
    """The base, moved towards the other by at most t."""
    [delta] = inputs.deltas
    value = inputs.origin + np.clip(delta, -params["t"], params["t"])
    return Result(value, np.abs(inputs.origin) + np.abs(inputs.models[0]))


def arcee_fusion(inputs: Inputs, params: Params) -> Result:
    """The entries of the other model whose change matters most, by divergence of their row."""
    [other], base = inputs.models, inputs.origin
    if other.size == 0:
        return Result(other, other)
    p, q = _softmax(other), _softmax(base)
    divergence = (p * np.log(p / q)).sum(axis=-1, keepdims=other.ndim > 0)
    score = np.abs(other - base) * divergence
    ordered = np.sort(score.reshape(-1))
    low, median, high = (ordered[int(part * (ordered.size - 1))] for part in (0.25, 0.5, 0.75))
    limit = median + 1.5 * (high - low)
    noise = 1e-3 * abs(limit) + 1e-4 * np.abs(score) + np.abs(other - base) * 1e-9
    unsure = (np.abs(score - limit) <= noise) & (other != base)
    return Result(np.where(score >= limit, other, base), np.zeros(base.shape), None, unsure)


def _softmax(x: Array) -> Array:
    """Of the last axis, and a little more than 0."""
    if x.ndim == 0:
        return np.asarray(1.0 + 1e-8)
    risen = np.exp(x - x.max(axis=-1, keepdims=True))
    return np.asarray(risen / risen.sum(axis=-1, keepdims=True) + 1e-8)
