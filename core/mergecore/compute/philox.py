"""Random numbers that depend on names and positions only: `mergecore-rng/1`.

Philox4x64-10 in counter mode, keyed by seed, output tensor, model slot and purpose.  Element i of a tensor
always gets the same 32 bits, whatever the block, the thread, the order or the machine.
"""

from __future__ import annotations

import hashlib
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from mergecore.version import RNG

Words: TypeAlias = "npt.NDArray[np.uint32]"
Uniform: TypeAlias = "npt.NDArray[np.float32]"
Mask: TypeAlias = "npt.NDArray[np.bool_]"

_WORDS = 8  # 32-bit words in one Philox block


def random_key(seed: int, tensor: str, slot: str, purpose: str) -> int:
    """The 128-bit key of one stream."""
    text = "\0".join((RNG, str(seed), tensor, slot, purpose))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], "little")


def random_words(key: int, start: int, stop: int) -> Words:
    """32 random bits for each of the elements `start` to `stop`, counted in C order over the whole tensor."""
    first = start // _WORDS
    last = -(-stop // _WORDS)
    # numpy advances the counter before it uses it
    stream = np.random.Philox(key=key, counter=(first - 1) % (1 << 256))
    words = stream.random_raw((last - first) * _WORDS // 2).view(np.uint32)
    return words[start - first * _WORDS : stop - first * _WORDS]


def uniform(words: Words) -> Uniform:
    """Numbers in [0, 1), multiples of 2^-24 and so exact in float32."""
    numbers = (words >> np.uint32(8)).astype(np.float32)
    numbers *= np.float32(2.0**-24)
    return numbers


def mask(words: Words, probability: float) -> Mask:
    """True with `probability`; always true from 1 on."""
    threshold = round(probability * 2.0**32)
    if threshold >= 1 << 32:
        return np.ones(words.shape, dtype=np.bool_)
    return words < np.uint32(max(threshold, 0))
