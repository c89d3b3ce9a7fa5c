"""How task vectors are thinned out: by size, at random, by size at random.

Each function takes the inputs and the number of a model, and gives a `Pruned`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from fuzz.reference import draws
from fuzz.reference.arrays import Array, Inputs, Params, nothing


@dataclass(frozen=True)
class Pruned:
    """A task vector of which entries are left out, the others rescaled."""

    value: Array
    unsure: Array


def by_size(size: Array) -> Array:
    """The flat positions, largest first; of equal ones the lowest first."""
    return np.argsort(-size.reshape(-1), kind="stable")


def marked(positions: Array, shape: tuple[int, ...]) -> Array:
    """True at flat positions."""
    mask = np.zeros(int(np.prod(shape)), dtype=bool)
    mask[positions] = True
    return mask.reshape(shape)


def unpruned(inputs: Inputs, i: int) -> Pruned:
    """The whole task vector."""
    return Pruned(inputs.deltas[i], nothing(inputs.origin))


def largest(inputs: Inputs, i: int, params: Params) -> Pruned:
    """The largest entries: exactly max(1, trunc(density n))."""
    if inputs.selected:
        return _of_the_model(inputs, i, params)
    density, seen = params["density"][i], inputs.seen[i]
    if density >= 1 or seen.size == 0:
        return unpruned(inputs, i)
    count = 0 if density <= 0 else max(1, int(density * seen.size))
    mask = marked(by_size(np.abs(seen))[:count], seen.shape)
    return _kept(inputs, i, mask, params["rescale"])


def middle(inputs: Inputs, i: int, params: Params) -> Pruned:
    """trunc(density n) entries after the trunc(gamma n) largest; density wins where both are too much."""
    if inputs.selected:
        return _of_the_model(inputs, i, params)
    density, gamma, seen = params["density"][i], params["gamma"][i], inputs.seen[i]
    if density >= 1 or seen.size == 0:
        return unpruned(inputs, i)
    target, top = int(density * seen.size), int(gamma * seen.size)
    top = min(top, seen.size - target)
    mask = marked(by_size(np.abs(seen))[top : top + target], seen.shape)
    return _kept(inputs, i, mask, params["rescale"])


def _of_the_model(inputs: Inputs, i: int, params: Params) -> Pruned:
    """What is selected in the whole model."""
    own = inputs.selected[i]
    kept = inputs.deltas[i] * own.mask * (own.ratio if params["rescale"] else 1.0)
    return Pruned(kept, own.unsure)


def at_random(inputs: Inputs, i: int, params: Params) -> Pruned:
    """DARE: entries kept with probability density, divided by it."""
    density, shape = params["density"][i], inputs.origin.shape
    if density >= 1:
        return unpruned(inputs, i)
    mask = draws.chosen(inputs.seed, inputs.name, i, density, shape)
    if params["rescale"] is True and density > 0:
        return Pruned(inputs.deltas[i] * mask / density, nothing(mask))
    return _kept(inputs, i, mask, params["rescale"])


def by_rank(inputs: Inputs, i: int, params: Params) -> Pruned:
    """DELLA: the probability to be kept grows with the rank in the row, from density - epsilon to density + epsilon."""
    density, epsilon, seen = params["density"][i], params["epsilon"][i], inputs.seen[i]
    if density >= 1 or seen.size == 0:
        return unpruned(inputs, i)
    if density <= 0:
        return Pruned(np.zeros(seen.shape), nothing(seen))
    keep = _probabilities(np.abs(seen), density, epsilon)
    drawn = draws.uniform(inputs.seed, inputs.name, i, seen.shape)
    mask = drawn < keep.astype(np.float32)
    if params["rescale"] is True:
        return Pruned(np.where(mask, inputs.deltas[i] / keep, 0.0), nothing(mask))
    return _kept(inputs, i, mask, params["rescale"])


def _probabilities(size: Array, density: float, epsilon: float) -> Array:
    """Of each entry the probability; of equal sizes in a row the first is the smaller."""
    rows = size.reshape(-1, size.shape[-1]) if size.ndim else size.reshape(1, 1)
    columns = rows.shape[1]
    if columns == 1:
        return np.full(size.shape, density)
    order = np.argsort(rows, axis=1, kind="stable")
    rank = np.empty(rows.shape)
    np.put_along_axis(rank, order, np.arange(columns, dtype=np.float64)[None, :], axis=1)
    keep = density - epsilon + 2 * epsilon * rank / (columns - 1)
    return keep.reshape(size.shape)


def _kept(inputs: Inputs, i: int, mask: Array, rescale: Any) -> Pruned:
    """The entries of the mask, and with `rescale` at the former sum of sizes."""
    kept = inputs.deltas[i] * mask
    before, after = np.abs(inputs.deltas[i]).sum(), np.abs(kept).sum()
    if rescale and after > 0:
        kept = kept * (before / after)
    return Pruned(kept, nothing(mask))
