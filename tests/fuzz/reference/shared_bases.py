"""Methods that merge in a basis which all task vectors share: a plain sum is the same in any."""

from __future__ import annotations

import numpy as np

from fuzz.reference.arrays import Inputs, Params, Result, nothing


def summed(inputs: Inputs, params: Params) -> Result:
    """Base plus lambda times the weighted sum of task vectors; a rotation spreads rounding over all of a tensor."""
    weights = np.array(params["weight"], dtype=np.float64)
    changes = np.stack([model - inputs.origin for model in inputs.models])
    parts = weights.reshape((-1,) + (1,) * (changes.ndim - 1)) * changes
    mixed = parts.sum(axis=0)
    factor = float(params.get("lambda", 1.0))
    total = weights.sum()
    if params["normalize"] and abs(total) > 1e-9 * np.abs(weights).sum():
        factor /= total
    size = np.sqrt(np.square(parts).sum()) * max(1.0, np.sqrt(max(parts[0].shape, default=1)))
    scale = np.abs(inputs.origin) + abs(factor) * size
    return Result(inputs.origin + factor * mixed, scale, None, nothing(mixed))
