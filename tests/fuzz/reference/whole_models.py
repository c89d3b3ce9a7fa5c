"""`scope: model`: entries are selected in the whole task vector of a model, not in each tensor.

Read `selected`: for each tensor and model what is kept, and what restores the L1 norm of the model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from fuzz.reference.arrays import Array, Inputs, Params, Selected


def selected(tensors: Sequence[Inputs], params: Sequence[Params]) -> list[Inputs]:
    """The tensors, each with what is kept of it; every model has one density, and perhaps one gamma."""
    if not tensors:
        return []
    found: list[list[Selected]] = [[] for _ in tensors]
    for i in range(len(tensors[0].models)):
        sizes = [np.abs(one.seen[i]).reshape(-1) for one in tensors]
        whole = np.concatenate(sizes)
        mask, unsure = _band(whole, params[0], i)
        kept = whole[mask].sum()
        ratio = float(whole.sum() / kept) if kept > 0 else 1.0
        at = 0
        for number, one in enumerate(tensors):
            part = slice(at, at + one.origin.size)
            shape = one.origin.shape
            found[number].append(Selected(mask[part].reshape(shape), unsure[part].reshape(shape), ratio))
            at += one.origin.size
    return [replace(one, selected=own) for one, own in zip(tensors, found, strict=True)]


def _band(sizes: Array, params: Params, i: int) -> tuple[Array, Array]:
    """What is kept, and which entries as large as the last one kept or left out could be in place of it."""
    density, total = params["density"][i], sizes.size
    everything, nothing = np.ones(total, bool), np.zeros(total, bool)
    if density >= 1 or total == 0:
        return everything, nothing
    top, target = _counts(density, params.get("gamma"), i, total)
    order = np.argsort(-sizes, kind="stable")
    mask, unsure = nothing.copy(), nothing.copy()
    mask[order[top : top + target]] = True
    for edge in (top, top + target):
        if 0 < edge < total and sizes[order[edge - 1]] == sizes[order[edge]]:
            unsure |= (sizes == sizes[order[edge]]) & (sizes > 0)
    return mask, unsure


def _counts(density: float, gamma: Any, i: int, total: int) -> tuple[int, int]:
    """How many of the largest are left out, and how many are kept after them."""
    if gamma is None:
        return 0, max(1, int(density * total)) if density > 0 else 0
    target = int(density * total)
    return min(int(gamma[i] * total), total - target), target
