"""Whether a difference between two models is more than noise: paired bootstrap over samples; read `paired`."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import TYPE_CHECKING, TypeAlias

from mergecore.types import Score

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Numbers: TypeAlias = NDArray[np.float64]

RESAMPLES = 2000
LEVEL = 0.95
FEWEST = 6
"""With fewer samples, even a model that wins every one of them has won by chance once in twenty times."""
MOST = 709.0
"""A mean whose exp a float holds; draws beyond it are taken for this one."""
_CHUNK = 4_000_000
"""Numbers that are drawn at once."""


@dataclass(frozen=True)
class Interval:
    """A value, and where it would lie in 95 of 100 draws of as many samples."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Difference:
    """By how much a model differs from another one, `value` less that of the other.

    low, high: the interval of 95 %; None where there are no numbers of single samples.
    within_noise: whether samples drawn anew could turn it round; None where that cannot be said.
    words: the same for people: better, worse, within noise, the same, or why nothing can be said.
    """

    value: float
    low: float | None
    high: float | None
    within_noise: bool | None
    words: str


def interval(score: Score, seed: int = 0) -> Interval | None:
    """The interval of a score; None where it has fewer than two numbers of single samples."""
    (counted,) = _that_count(score)
    if len(counted.per_sample) < 2:
        return None
    drawn = _resampled((counted,), seed)[0]
    low, high = ends(drawn, len(counted.per_sample))
    return Interval(score.value, low, high)


def paired(score: Score, other: Score, seed: int = 0) -> Difference:
    """How a score differs from the same score of another model, sample by sample.

    Both are of the same samples in the same order; each resample takes the same ones of both.
    """
    value = score.value - other.value
    count = len(score.per_sample)
    if not count or count != len(other.per_sample):
        why = "no interval: it has no samples" if not count else "no interval: other samples"
        return Difference(value, None, None, None, why)
    if score.per_sample == other.per_sample and score.weights == other.weights:
        return Difference(
            value, value, value, value == 0, "the same" if value == 0 else _better(score, value)
        )
    both = _that_count(score, other)
    count = len(both[0].per_sample)
    if count < FEWEST:
        few = f"within noise: {count} {'sample is' if count == 1 else 'samples are'} too few"
        return Difference(value, None, None, True, few)
    ours, theirs = _resampled(both, seed)
    low, high = ends(ours - theirs, count)
    noise = low <= 0 <= high or not _is_clear(score.per_sample, other.per_sample)
    return Difference(value, low, high, noise, "within noise" if noise else _better(score, value))


def _that_count(*scores: Score) -> tuple[Score, ...]:
    """The scores without samples that have no weight in any: draws of these alone would have no value."""
    if not all(one.weights for one in scores):
        return scores
    kept = [i for i, each in enumerate(zip(*(one.weights for one in scores), strict=True)) if any(each)]
    return tuple(
        replace(
            one,
            per_sample=tuple(one.per_sample[i] for i in kept),
            weights=tuple(one.weights[i] for i in kept),
        )
        for one in scores
    )


def mcnemar(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """How likely so uneven a split of the samples that only one of both has right is by chance, exactly, both ways."""
    wins = sum(a > b for a, b in zip(ours, theirs, strict=True))
    losses = sum(a < b for a, b in zip(ours, theirs, strict=True))
    count, most = wins + losses, max(wins, losses)
    tail = sum(math.comb(count, k) for k in range(most, count + 1))
    return min(1.0, 2 * tail / (1 << count))


def _is_clear(ours: Sequence[float], theirs: Sequence[float]) -> bool:
    """Whether the split of rights and wrongs is clear too, where samples are that: few draws show little of chance."""
    if {*ours, *theirs} <= {0.0, 1.0}:
        return mcnemar(ours, theirs) < 1 - LEVEL
    return True


def _better(score: Score, value: float) -> str:
    return "better" if (value > 0) == (score.goal == "max") else "worse"


# ---- the bootstrap -----------------------------------------------------------------------------------------


def _resampled(scores: Sequence[Score], seed: int) -> list[Numbers]:
    """The values that samples drawn anew would give, the same ones for all scores."""
    import numpy as np

    count = len(scores[0].per_sample)
    draw = np.random.default_rng(seed)
    at_once = max(1, _CHUNK // count)
    found: list[list[Numbers]] = [[] for _ in scores]
    arrays = [_arrays(score) for score in scores]
    for start in range(0, RESAMPLES, at_once):
        number = min(at_once, RESAMPLES - start)
        chosen = draw.integers(0, count, (number, count))
        times = np.stack([np.bincount(row, minlength=count) for row in chosen]).astype(np.float64)
        for into, (total, weights, value_of) in zip(found, arrays, strict=True):
            into.append(value_of(times @ total, times @ weights))
    return [np.concatenate(one) for one in found]


def _arrays(score: Score) -> tuple[Numbers, Numbers, Callable[[Numbers, Numbers], Numbers]]:
    """Weighted numbers, weights, and what makes a value of their sums."""
    import numpy as np

    weights = np.asarray(score.weights or [1.0] * len(score.per_sample), np.float64)
    total = np.asarray(score.per_sample, np.float64) * weights

    def value_of(numbers: Numbers, weight: Numbers) -> Numbers:
        mean = numbers / np.where(weight > 0, weight, 1.0)
        return np.exp(np.minimum(mean, MOST)) if score.scale == "exp" else mean

    return total, weights, value_of


def ends(drawn: Numbers, count: int) -> tuple[float, float]:
    """The ends of the interval, as far out as few samples need it (Hesterberg 2015, expanded percentiles)."""
    import numpy as np

    tail = NormalDist().cdf(-math.sqrt(count / (count - 1)) * _student(1 - (1 - LEVEL) / 2, count - 1))
    low, high = np.quantile(drawn, [tail, 1 - tail])
    return float(low), float(high)


def _student(share: float, freedom: int) -> float:
    """The quantile of Student's t (Abramowitz and Stegun 26.7.5)."""
    if freedom < 3:
        x: float = 2 * share - 1
        return math.tan(math.pi * x / 2) if freedom == 1 else x * math.sqrt(2 / (1 - x * x))
    z = NormalDist().inv_cdf(share)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return float(z) + math.fsum(term / freedom**power for power, term in enumerate(terms, 1))
