"""Finding one key of many by guessing, from a sample, between which two it lies: one pass over all in place of two.

`window_of` makes the guess.  A `Guess` looks at every block once and then knows the key, or that the guess was
wrong.  Keys are magnitudes as unsigned integers; numbers that models share are few, so one key may be very
frequent: such keys are only counted.
"""

from __future__ import annotations

import math
import threading
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

Keys: TypeAlias = "npt.NDArray[np.uint32] | npt.NDArray[np.uint64]"


class Window(NamedTuple):
    """Keys from `low` to `high`; in `heavy` those of them that a good part of all elements has."""

    low: int
    high: int
    heavy: tuple[int, ...]


class Found(NamedTuple):
    """The wanted key, its rank among its equals from 1, and how many of these each block has."""

    key: int
    rank: int
    equal: list[int]


def window_of(sample: Keys, larger: float, count: int, limit: int) -> Window | None:
    """Where the key should be that a share `larger` of `count` elements reaches, estimated from a sorted sample.

    None when more than `limit` elements may have one of the keys there that are not heavy.
    """
    size = len(sample)
    place = (1 - larger) * size
    spread = 4 * math.sqrt(size * larger * (1 - larger)) + 1
    for reach in (spread + size / 100, spread):  # a sample from single places may lean to one side
        first, last = math.floor(place - reach), math.ceil(place + reach)
        low = sample[first] if first > 0 else sample.dtype.type(0)
        high = sample[last] if last < size - 1 else sample.dtype.type(-1 + (1 << (8 * sample.itemsize - 1)))
        inside = sample[np.searchsorted(sample, low) : np.searchsorted(sample, high, "right")]
        keys, counts = np.unique(inside, return_counts=True)
        frequent = counts > size / 100
        if int(counts[~frequent].sum()) * count <= size * limit // 2:
            return Window(int(low), int(high), tuple(keys[frequent].tolist()))
    return None


class Guess:
    """The search for a key in a window; it keeps `limit` other keys than the heavy ones at most."""

    def __init__(self, window: Window, blocks: int, limit: int) -> None:
        self._window = window
        self._limit = limit
        self._lock = threading.Lock()
        self._above = self._kept = 0
        self._heavy = np.zeros((blocks, len(window.heavy)), np.int64)
        self._others: list[Keys] = [np.empty(0, np.uint32)] * blocks

    def look(self, index: int, doubled: Keys) -> None:
        """Gather from the keys of block `index`, each times 2; overwrites them."""
        low, high, heavy = self._window
        word = doubled.dtype.type
        above = int(np.count_nonzero(doubled > word(2 * high)))
        doubled -= word(2 * low)  # what was below wraps around
        others = doubled <= word(2 * (high - low))
        for i, key in enumerate(heavy):
            equal = doubled == word(2 * (key - low))
            self._heavy[index, i] = np.count_nonzero(equal)
            others &= ~equal
        kept = int(np.count_nonzero(others))
        with self._lock:
            self._above += above
            self._kept += kept
        if self._kept <= self._limit:
            self._others[index] = doubled.take(np.flatnonzero(others)) >> word(1)

    def find(self, rank: int) -> Found | None:
        """The key with `rank` from the largest; None when it is not in the window."""
        if self._kept > self._limit:
            return None
        low, _, heavy = self._window
        others, counts = np.unique(np.concatenate(self._others), return_counts=True)
        keys = np.concatenate([others.astype(np.uint64), np.array(heavy, np.uint64) - np.uint64(low)])
        order = np.argsort(keys)[::-1]
        counts = np.concatenate([counts, self._heavy.sum(axis=0)])[order]
        reached = self._above + np.cumsum(counts)
        if not self._above < rank <= self._above + counts.sum():
            return None
        place = int(np.searchsorted(reached, rank))
        key = int(keys[order[place]])
        return Found(low + key, rank - int(reached[place] - counts[place]), self._equal(key))

    def _equal(self, key: int) -> list[int]:
        """How many elements of each block have that key, counted from the start of the window."""
        low, _, heavy = self._window
        if low + key in heavy:
            column: list[int] = self._heavy[:, heavy.index(low + key)].tolist()
            return column
        return [int(np.count_nonzero(block == key)) for block in self._others]
