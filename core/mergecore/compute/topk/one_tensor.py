"""Which elements are the k largest by magnitude, exactly, without sorting: histograms over the bit pattern.

For finite numbers the order of magnitudes is the order of the bits without the sign, their key.  A `Search`
finds the k-th one digit of 16 bits at a time, and stops early by looking at the candidates when few are left;
given a sample, it first guesses where it is.
Equal magnitudes go by lowest position, so exactly k elements are kept.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mergecore.compute.topk.sampled import Guess, Keys, window_of
from mergecore.types.steps import CANDIDATES

Numbers: TypeAlias = "npt.NDArray[np.floating]"
Counts: TypeAlias = "npt.NDArray[np.int64]"
Wanted: TypeAlias = "int | Callable[[int], int]"
"""How many to keep, or what that follows from: how many are not zero."""


@dataclass(frozen=True)
class ExactCut:
    """A cut that keeps exactly k magnitudes: all above `value`, and those equal to it that come first.

    In blocks before `boundary` the equal ones are all kept, after it none; in it, the first `quota`.
    """

    value: float
    boundary: int = 0
    quota: int = 0

    def trim_(self, x: Tensor, index: int) -> Tensor:
        """Zero what the cut leaves out of `x` (m,), the numbers of flat block `index`; in place."""
        if x.dim() != 1:
            raise ValueError("a cut goes by position in flat blocks; trim in a pass without rows")
        if self.value == 0:
            return x
        if index < self.boundary:
            return _shrink_(x, _below(self.value, x.dtype))
        if index > self.boundary:
            return _shrink_(x, self.value)
        first = _places(x, self.value)[: self.quota]
        kept = x[first]
        _shrink_(x, self.value)
        x[first] = kept
        return x


KEEP_ALL = ExactCut(0.0)
KEEP_NONE = ExactCut(float("inf"), boundary=-1)


def kept_count(density: float, count: int) -> int:
    """How many of `count` elements a density keeps: truncated, at least one unless the density is 0."""
    if density <= 0:
        return 0
    return min(count, max(1, int(density * count)))


class Search:
    """The search for the cut that keeps the `k` largest magnitudes of `count` numbers in `blocks` blocks.

    While `found` is false: call `look` once with every block, from any thread, then `narrow`.  A search for
    everything ends before it begins, unless the `value` of the cut is wanted too.  `sharing` searches have the
    memory of one.
    """

    def __init__(
        self,
        k: Wanted,
        count: int,
        blocks: int,
        dtype: torch.dtype,
        *,
        value: bool = False,
        sharing: int = 1,
    ) -> None:
        self.cut = KEEP_ALL
        self.found = False
        self._wide = dtype == torch.float64
        self._digits = 4 if self._wide else 2
        self._level = 0
        self._prefix = 0
        self._rank = 0
        self._wanted = k
        self._value = value
        self._limit = CANDIDATES // max(1, sharing)
        self._count = self._matching = count
        self._nonzero = 0
        self._lock = threading.Lock()
        self._counts = np.zeros(0, dtype=np.int64)
        self._candidates: list[Keys] = [np.empty(0, dtype=np.uint32)] * blocks
        self._equal = [0] * blocks
        self._guess: Guess | None = None
        if not callable(k):
            self._want(k)

    def look(self, index: int, x: Tensor) -> None:
        """Gather from the numbers `x` of block `index` what this pass needs."""
        look_for([self], index, x)

    def guess(self, sample: Keys) -> None:
        """Look first where a sorted sample of the keys says that the wanted one is."""
        if not self.found and not callable(self._wanted):
            window = window_of(sample, self._rank / self._count, self._count, self._limit)
            self._guess = Guess(window, len(self._equal), self._limit) if window else None

    @property
    def at_top(self) -> bool:
        """Whether it needs to know how often each value of the topmost digit occurs."""
        return self._level == 0 and self._guess is None

    def gather(self, index: int, numbers: Numbers, top: Counts | None) -> None:
        """As `look`, given what was asked for with `at_top`."""
        if self._guess:
            self._guess.look(index, self._doubled(numbers))
        elif top is not None and self.at_top:
            zeros = 0 if top[0] == 0 or not callable(self._wanted) else int(np.count_nonzero(numbers == 0))
            self._add(top, len(numbers) - zeros)
        elif self._level == self._digits:
            self._equal[index] = len(self._matches(numbers))
        elif self._matching <= self._limit:
            self._candidates[index] = self._matches(numbers)
        else:
            shift = 16 * (self._digits - 1 - self._level)
            digits = self._matches(numbers).astype(np.int64) >> shift
            self._add(np.bincount(digits, minlength=1 << 16))

    def narrow(self) -> None:
        """Use what the pass gathered."""
        if self._level == 0 and callable(self._wanted):
            self._want(self._wanted(self._nonzero))
        if self.found:
            return
        if self._guess:
            self._settle(self._guess)
        elif self._level == self._digits:
            self._finish()
        elif self._level and self._matching <= self._limit:
            self._choose()
            self._finish()
        else:
            self._descend()
            if self._level == self._digits and self._prefix == 0:
                self.found = True  # the cut lies among zeros, which need no trimming

    def _settle(self, guess: Guess) -> None:
        """Be done if the guess was right, or forget it."""
        self._guess = None
        if found := guess.find(self._rank):
            self._prefix, self._rank, self._equal = found
            self._finish()

    def _want(self, k: int) -> None:
        """Begin to look for the `k` largest, or be done."""
        self._rank = min(k, self._count)
        if k <= 0 < self._count:
            self.cut = KEEP_NONE
        self.found = k <= 0 or (k >= self._count and not self._value)

    def _add(self, counts: Counts, nonzero: int = 0) -> None:
        with self._lock:
            self._counts = counts if self._counts.size == 0 else self._counts + counts
            self._nonzero += nonzero

    def _matches(self, numbers: Numbers) -> Keys:
        """The unknown digits of the keys that begin with the known ones."""
        width = 16 * (self._digits - self._level) + 1
        doubled = self._doubled(numbers)
        word = doubled.dtype.type
        doubled -= word(self._prefix << width)
        # taking the places is a third faster than indexing by a mask
        matching: Keys = doubled.take(np.flatnonzero(doubled < word(1 << width))) >> word(1)
        return matching

    def _doubled(self, numbers: Numbers) -> Keys:
        """The keys times 2: the bits without the sign, one place up."""
        if self._wide:
            return numbers.view(np.uint64) << np.uint64(1)
        return numbers.view(np.uint32) << np.uint32(1)

    def _descend(self) -> None:
        """Find the next digit of the wanted magnitude."""
        digit = self._digit()
        self._matching = int(self._counts[digit])
        self._prefix = (self._prefix << 16) | digit
        self._level += 1
        self._counts = np.zeros(0, dtype=np.int64)

    def _digit(self) -> int:
        """The digit in which the wanted rank lies; the rank is counted from there on."""
        upto = np.cumsum(self._counts)  # elements with this digit or a lower one
        digit = int(np.searchsorted(upto, upto[-1] - self._rank, side="right"))
        self._rank -= int(upto[-1] - upto[digit])
        return digit

    def _choose(self) -> None:
        """Find all missing digits among the candidates, and count the equals block by block."""
        candidates = np.concatenate(self._candidates)
        key = 0
        for level in range(self._level, self._digits):
            shift = 16 * (self._digits - 1 - level)
            digits = (candidates.astype(np.int64) >> shift) & 0xFFFF
            self._counts = np.bincount(digits, minlength=1 << 16)
            digit = self._digit()
            key = (key << 16) | digit
            candidates = candidates[digits == digit]
        self._prefix = (self._prefix << (16 * (self._digits - self._level))) | key
        self._equal = [int(np.count_nonzero(block == key)) for block in self._candidates]

    def _finish(self) -> None:
        bits = np.array([self._prefix], dtype=np.uint64 if self._wide else np.uint32)
        value = float(bits.view(np.float64 if self._wide else np.float32)[0])
        self.found = True
        self.cut = KEEP_ALL if value == 0 else _at(value, self._rank, self._equal)


def keys_of(numbers: Numbers) -> Keys:
    """The keys of numbers, which are in the order of the magnitudes."""
    if numbers.dtype == np.float64:
        return numbers.view(np.uint64) & np.uint64((1 << 63) - 1)
    return numbers.view(np.uint32) & np.uint32((1 << 31) - 1)


def look_for(searches: Iterable[Search], index: int, x: Tensor) -> None:
    """Gather for each of `searches` from the same numbers, `x` of block `index`."""
    numbers: Numbers = x.cpu().numpy().reshape(-1)
    top = _top_digits(numbers) if any(search.at_top for search in searches) else None
    for search in searches:
        search.gather(index, numbers, top)


def _at(value: float, quota: int, equal: list[int]) -> ExactCut:
    """The cut at `value` that keeps the first `quota` of its equals, of which block i holds `equal[i]`."""
    for index, count in enumerate(equal):
        if quota < count:
            return ExactCut(value, index, quota)
        quota -= count
    return ExactCut(value, len(equal))


def _top_digits(numbers: Numbers) -> Counts:
    """How often each value of the 15 bits below the sign occurs."""
    width = numbers.itemsize // 2
    counts = np.bincount(numbers.view(np.uint16)[width - 1 :: width], minlength=1 << 16)
    return counts[: 1 << 15] + counts[1 << 15 :]


def _places(x: Tensor, value: float) -> Tensor:
    """The positions in `x` (m,) of that magnitude, ascending."""
    if x.device.type == "cpu":  # numpy takes half the time of torch
        return torch.from_numpy(np.flatnonzero(x.abs().numpy() == value))
    return (x.abs() == value).nonzero().view(-1)


def _below(value: float, dtype: torch.dtype) -> float:
    """The largest number of `dtype` below `value`."""
    return float(torch.nextafter(torch.tensor(value, dtype=dtype), torch.tensor(0.0, dtype=dtype)))


def _shrink_(x: Tensor, value: float) -> Tensor:
    """Zero the elements of magnitude `value` and below, in place."""
    torch.ops.aten.hardshrink.out(x, value, out=x)
    return x
