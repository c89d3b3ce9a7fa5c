"""Methods that go along arcs: slerp, nuslerp, multislerp, karcher.

Where two vectors point apart, no arc is better than another: then only the length of the result is known.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from fuzz.reference.arrays import Array, Inputs, Params, Result, dot, length, nothing

STRAIGHT = -0.9995
"""Vectors whose cosine is below it have no arc between them worth the name."""
APART = -1 + 1e-6
"""From this cosine on, the way between two vectors hangs on rounding errors."""


def slerp(inputs: Inputs, params: Params) -> Result:
    """From the base, the first input, to the other; straight where the cosine is above 0.9995."""
    first, second = inputs.models
    if params.get("weight") and params["weight"][1] is not None:
        share = params["weight"][1] / sum(params["weight"])
    else:
        share = params["t"]
    one, two = (length(x) if length(x) > 1e-8 else 1.0 for x in (first, second))
    cosine = max(-1.0, min(1.0, dot(first / one, second / two)))
    straight = (1 - share, share)
    curved = _shares(cosine, share)
    shares, others = (straight, curved) if abs(cosine) > 0.9995 else (curved, straight)
    value, scale = _mix(shares, (first, second))
    other = _mix(others, (first, second))[0] if abs(abs(cosine) - 0.9995) < 1e-9 else None
    return Result(value, scale, other)


def nuslerp(inputs: Inputs, params: Params) -> Result:
    """Between two models, or two task vectors; whole, by rows or by columns."""
    first, second = params["weight"]
    share = 0.5 if abs(first + second) < 1e-6 else second / (first + second)
    one, two = inputs.deltas
    if params["nuslerp_flatten"] or one.ndim < 2:
        pairs = [(one.reshape(-1), two.reshape(-1))]
    else:
        one, two = (np.swapaxes(x, 0, -1) if params["nuslerp_row_wise"] else x for x in (one, two))
        pairs = list(zip(one.reshape(-1, one.shape[-1]), two.reshape(-1, one.shape[-1]), strict=True))
    mixed = [_between(share, *pair) for pair in pairs]
    value, scale, unsure = (
        np.stack([row[k] for row in mixed]).reshape(one.shape) if mixed else one for k in range(3)
    )
    if params["nuslerp_row_wise"] and not params["nuslerp_flatten"] and one.ndim >= 2:
        value, scale, unsure = (np.swapaxes(x, 0, -1) for x in (value, scale, unsure))
    longest = sum(max(length(a), length(b)) ** 2 for a, b in pairs) ** 0.5 if 0 <= share <= 1 else None
    unsure = unsure.astype(bool)
    return Result(value + inputs.origin, scale + np.abs(inputs.origin), None, unsure, longest=longest)


def _between(share: float, one: Array, two: Array) -> tuple[Array, Array, Array]:
    """The point on the arc, the size of its parts, and where it hangs on rounding errors."""
    lengths = length(one), length(two)
    cosine = dot(one / max(lengths[0], 1e-7), two / max(lengths[1], 1e-7))
    cosine = max(-1.0, min(1.0, cosine))
    straight = 1 - cosine**2 <= 1e-16 or cosine < STRAIGHT
    shares = (1 - share, share) if straight else _shares(cosine, share)
    value, scale = _mix(shares, (one, two))
    scale = scale / max(1e-9, 1 - cosine**2) ** 0.5  # an error of the angle weighs so much
    return value, scale, np.full(one.shape, abs(cosine - STRAIGHT) < 1e-6)


def _shares(cosine: float, share: float) -> tuple[float, float]:
    """The factors of both ends of an arc."""
    angle = math.acos(cosine)
    if math.sin(angle) == 0:
        return 1 - share, share
    return math.sin((1 - share) * angle) / math.sin(angle), math.sin(share * angle) / math.sin(angle)


def _mix(shares: Sequence[float], vectors: Sequence[Array]) -> tuple[Array, Array]:
    """The weighted sum, and the sum of the sizes."""
    terms = [share * vector for share, vector in zip(shares, vectors, strict=True)]
    return np.sum(terms, axis=0), np.sum(np.abs(terms), axis=0)


def multislerp(inputs: Inputs, params: Params) -> Result:
    """The weighted mean of directions, at the weighted mean of lengths."""
    if len(inputs.models) == 1:
        return Result(inputs.models[0], np.abs(inputs.models[0]) + np.abs(inputs.origin))
    weights = np.array(params["weight"], dtype=np.float64)
    if params["normalize_weights"]:
        weights = weights / weights.sum()
    lengths = [length(one) for one in inputs.deltas]
    # a length of 0 has no direction, also where eps is 0
    units = [d / (n + params["eps"]) if n else d for d, n in zip(inputs.deltas, lengths, strict=True)]
    mean, size = _mix(list(weights), units)
    least = max(params["eps"], 1e-6 * float(np.abs(weights).sum()))
    if len(inputs.models) > 2 and length(mean) < least and any(lengths):
        return Result(mean, size, hopeless=True)
    if length(mean) < params["eps"]:
        value, scale = _mix(list(weights), inputs.deltas)
        return Result(value + inputs.origin, scale + np.abs(inputs.origin))
    radius = float(np.dot(weights, lengths))
    spread = float(np.dot(np.abs(weights), lengths))
    if length(mean) == 0:
        return Result(inputs.origin, np.abs(inputs.origin))
    cancelled = length(size) / length(mean)
    scale = size / length(mean) * spread * (1 + cancelled) + np.abs(inputs.origin)
    unsure = np.full(mean.shape, cancelled > 1e5)
    return Result(mean / length(mean) * radius + inputs.origin, scale, None, unsure)


def karcher(inputs: Inputs, params: Params) -> Result:
    """The mean on the sphere, by steps of gradient descent, at the mean of the lengths."""
    lengths = [length(one) for one in inputs.models]
    tol, first = params["tol"], inputs.models[0]
    kept = [i for i, n in enumerate(lengths) if n > tol * max(lengths)]
    if not kept:
        return Result(np.zeros(first.shape), np.zeros(first.shape))
    units = [inputs.models[i].reshape(-1) / lengths[i] for i in kept]
    point = np.mean(units, axis=0)
    point = units[0] if length(point) < tol else point / length(point)
    apart = min(dot(a, b) for a in units for b in units)
    for _ in range(params["max_iter"]):
        step, angle = _step(point, units, tol)
        if angle < tol:
            break
        point = math.cos(angle) * point + math.sin(angle) / angle * step
        point = point / length(point)
    radius = float(np.mean(lengths))
    value = (radius * point).reshape(first.shape)
    scale = radius * np.mean(np.abs(units), axis=0).reshape(first.shape) * 4 / (1 + max(apart, APART))
    unsure = nothing(first) | (apart < -0.9)
    return Result(value, scale + np.abs(value), None, unsure, longest=max(lengths))


def _step(point: Array, units: Sequence[Array], tol: float) -> tuple[Array, float]:
    """The mean of the directions to all units, by their angles; its length."""
    step = np.zeros(point.shape)
    for unit in units:
        cosine = max(-1.0, min(1.0, dot(point, unit)))
        angle = math.acos(cosine)
        if angle >= tol:
            step += angle / math.sin(angle) * (unit - cosine * point) / len(units)
    return step, length(step)
