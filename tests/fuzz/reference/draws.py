"""The random numbers of `mergecore-rng/1`, from their specification: Philox4x64-10 in counter mode.

Element i of a tensor takes word i mod 8 of the block i div 8; a block is four numbers of 64 bits, little end first.
"""

from __future__ import annotations

import hashlib

import numpy as np

from fuzz.reference.arrays import Array

NAME = "mergecore-rng/1"


def words(seed: int, tensor: str, slot: int, purpose: str, count: int) -> Array:
    """`count` numbers of 32 bits for a model of a tensor."""
    text = "\0".join((NAME, str(seed), tensor, str(slot), purpose))
    digest = hashlib.sha256(text.encode()).digest()
    key = np.frombuffer(digest[:16], dtype="<u8")
    blocks = -(-count // 8)
    # numpy counts up before it draws, so it begins at the counter before 0
    raw = np.random.Philox(key=key, counter=2**256 - 1).random_raw(4 * blocks)
    return np.asarray(raw, dtype="<u8").view("<u4")[:count].astype(np.uint64)


def chosen(seed: int, tensor: str, slot: int, density: float, shape: tuple[int, ...]) -> Array:
    """The entries that are kept with the same probability each."""
    drawn = words(seed, tensor, slot, "mask", int(np.prod(shape)))
    return (drawn < round(density * 2**32)).reshape(shape)


def uniform(seed: int, tensor: str, slot: int, shape: tuple[int, ...]) -> Array:
    """Numbers from 0 to below 1 in steps of 2^-24."""
    drawn = words(seed, tensor, slot, "uniform", int(np.prod(shape)))
    return ((drawn >> np.uint64(8)) * 2.0**-24).reshape(shape)
