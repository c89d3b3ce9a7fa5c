"""Whether anything that a search found is better than the average, though many were looked at; read `Verdict`.

What was looked at is corrected for by White's reality check: differences from the average are bootstrapped sample by
sample for all points together, and the largest is compared with the largest that chance would give.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from mergecore.errors import counted
from mergecore.types import Json, Score
from mergecore_plugins.evaluation.statistics import FEWEST, MOST, ends
from mergecore_plugins.search.journal import Trial
from mergecore_plugins.search.space.section import Objective

if TYPE_CHECKING:
    import numpy as np

DRAWS = 2000
LEVEL = 0.95
"""Of all intervals; a finding is one where chance would give it less often than 1 - LEVEL."""


@dataclass(frozen=True)
class Difference:
    """How much better a model is than another, in the numbers of the search, with its interval; more is better."""

    mean: float
    low: float
    high: float

    @property
    def in_words(self) -> str:
        """Better, worse, or within noise."""
        return "better" if self.low > 0 else "worse" if self.high < 0 else "within noise"

    def than(self, other: str) -> str:
        """By how much it is better or worse than the other, with the interval of just that."""
        if self.mean < 0:
            return f"worse than {other} by {-self.mean:.4g} [{-self.high:.4g}, {-self.low:.4g}]"
        return f"better than {other} by {self.mean:.4g} [{self.low:.4g}, {self.high:.4g}]"


def comparable(trials: Sequence[Trial]) -> bool:
    """Whether all of them were scored on the same samples, one by one."""
    counts = {tuple(len(score.per_sample) for score in one.scores) for one in trials if one.complete}
    return len(counts) == 1 and all(count > 1 for count in next(iter(counts)))


def difference(
    ours: Trial, theirs: Trial, objectives: Sequence[Objective], seed: int = 0
) -> list[Difference]:
    """How much better `ours` is, for each number of the search; empty where samples cannot be paired."""
    if not (comparable([ours, theirs]) and ours.complete and theirs.complete):
        return []
    drawn = _drawn([ours, theirs], objectives, seed)
    found = []
    for index, draws in enumerate(drawn):
        gains = draws[0] - draws[1]
        low, high = ends(gains, len(ours.scores[index].per_sample))
        found.append(Difference(ours.values[index] - theirs.values[index], low, high))
    return found


def looked_at(
    points: Sequence[Trial], average: Trial, objectives: Sequence[Objective], seed: int = 0
) -> float | None:
    """How often chance alone would make the best of all points so much better than the average.

    None where samples cannot be paired.  Points whose evaluation was ended early do not count: they were worse.
    """
    whole = [one for one in points if one.complete]
    if not whole or not comparable([*whole, average]):
        return None
    drawn = _drawn([*whole, average], objectives, seed)
    chances = []
    for index, draws in enumerate(drawn):
        gains = draws[:-1] - draws[-1]
        seen = [one.values[index] - average.values[index] for one in whole]
        chances.append(_chance(gains, seen))
    return min(1.0, min(chances) * len(chances))


def _chance(gains: np.ndarray[Any, Any], seen: Sequence[float]) -> float:
    """How often the largest of centred draws, in standard errors, reaches the largest that was seen."""
    import numpy as np

    centre = np.asarray(seen)
    errors = gains.std(axis=1, ddof=1)
    moving = errors > 1e-12 * np.maximum(1.0, np.abs(gains).max(axis=1))
    if not moving.any():
        return 1.0
    errors = errors[moving]
    largest = ((gains[moving] - centre[moving, None]) / errors[:, None]).max(axis=0)
    reached = float((centre[moving] / errors).max())
    return float((1 + np.count_nonzero(largest >= reached)) / (1 + len(largest)))


def _drawn(trials: Sequence[Trial], objectives: Sequence[Objective], seed: int) -> list[np.ndarray[Any, Any]]:
    """For each number of the search, its value for each trial in each draw of samples: (trials, draws)."""
    import numpy as np

    made = []
    for index, objective in enumerate(objectives):
        scores = [one.scores[index] for one in trials]
        sign = 1 if (objective.goal or scores[0].goal) == "max" else -1
        made.append(sign * _bootstrapped(scores, np.random.default_rng([seed, index])))
    if objectives[0].weight is None:
        return made
    weighted = [cast("float", one.weight) * each for one, each in zip(objectives, made, strict=True)]
    return [np.sum(weighted, axis=0)]


def _bootstrapped(scores: Sequence[Score], generator: np.random.Generator) -> np.ndarray[Any, Any]:
    """The value of each score in each draw; all have the same samples drawn."""
    import numpy as np

    values = np.array([one.per_sample for one in scores])
    weights = np.array([one.weights or (1.0,) * len(one.per_sample) for one in scores])
    count = values.shape[1]
    sums, totals = [], []
    for _ in range(0, DRAWS, _AT_ONCE):
        drawn = generator.multinomial(count, [1 / count] * count, size=_AT_ONCE)
        sums.append((values * weights) @ drawn.T)
        totals.append(weights @ drawn.T)
    means = np.concatenate(sums, axis=1) / np.maximum(np.concatenate(totals, axis=1), 1e-300)
    return np.exp(np.minimum(means, MOST)) if scores[0].scale == "exp" else means


_AT_ONCE = 500


def clearly_better(ours: Trial, theirs: Trial, objectives: Sequence[Objective]) -> bool:
    """Whether the samples say that `ours` is better in a number of the search and worse in none.

    Where samples cannot be paired, they say nothing.
    """
    gains = difference(ours, theirs, objectives)
    return any(one.low > 0 for one in gains) and not any(one.high < 0 for one in gains)


def stronger_than(ours: Trial, others: Sequence[Trial], objectives: Sequence[Objective]) -> Trial | None:
    """The best of the others that are clearly better, if any, though all of them were looked at."""
    chance = looked_at(others, ours, objectives)
    if chance is None or chance >= 1 - LEVEL:
        return None
    better = [one for one in others if clearly_better(one, ours, objectives)]
    return max(better, key=lambda one: one.values, default=None)


# ---- the choice --------------------------------------------------------------------------------------------


def best_of(points: Sequence[Trial], average: Trial | None) -> Trial | None:
    """The best complete point: by its number; of several numbers, the one of the front whose least gain is largest.

    Gains are over the average, or the worst of the front, in units of what the points differ by.
    """
    whole = [one for one in points if one.complete]
    if not whole:
        return None
    if len(whole[0].values) == 1:
        return max(whole, key=lambda one: (one.values, -one.number))
    columns = [[one.values[i] for one in whole] for i in range(len(whole[0].values))]
    widths = [max(column) - min(column) or 1.0 for column in columns]
    origin = average.values if average else tuple(min(column) for column in columns)

    def least(one: Trial) -> float:
        return min(
            (value - zero) / width for value, zero, width in zip(one.values, origin, widths, strict=True)
        )

    return max(front(whole), key=lambda one: (least(one), -one.number))


def front(points: Sequence[Trial]) -> list[Trial]:
    """The points that no other beats in one number without being worse in another."""
    whole = [one for one in points if one.complete]
    return [one for one in whole if not any(_dominates(other.values, one.values) for other in whole)]


def _dominates(a: Sequence[float], b: Sequence[float]) -> bool:
    return all(x >= y for x, y in zip(a, b, strict=True)) and any(x > y for x, y in zip(a, b, strict=True))


@dataclass(frozen=True)
class Verdict:
    """What a search comes to.

    beats: whether the best point is better than the average, as far as the data can say.  chance: how often chance
    alone would do so, corrected for all that was looked at; None where that is not known.  why: in a sentence.
    """

    beats: bool
    why: str
    chance: float | None = None
    gains: tuple[Difference, ...] = ()

    def as_json(self) -> dict[str, Json]:
        """For programs."""
        gains: list[Json] = [
            {"mean": one.mean, "low": one.low, "high": one.high, "words": one.in_words} for one in self.gains
        ]
        return {"beats_average": self.beats, "why": self.why, "chance": self.chance, "gains": gains}


def verdict(
    best: Trial,
    average: Trial,
    points: Sequence[Trial],
    objectives: Sequence[Objective],
    held_out: tuple[Trial, Trial] | None,
) -> Verdict:
    """Whether the best point beats the average.

    held_out: best and average on data that nothing was chosen by; then these decide, else the data of the search, where
        the choice among many is corrected for.
    """
    chance = looked_at(points, average, objectives)
    many = sum(one.complete for one in points)
    if all(a <= b for a, b in zip(best.values, average.values, strict=True)):
        return Verdict(
            False, f"no point of {many} is better than the average on the data of the search", chance
        )
    if held_out is not None:
        return _held_out(held_out, objectives, chance)
    gains = tuple(difference(best, average, objectives))
    if chance is None:
        why = "the evaluator gives no values for each sample, so nobody can tell a gain from noise"
        return Verdict(False, why, None, gains)
    words = f"looking at {counted(many, 'point')}, chance alone does as well in {_percent(chance)} of cases"
    found = chance < 1 - LEVEL and not any(one.high < 0 for one in gains)
    return Verdict(found, words, chance, gains)


def _held_out(pair: tuple[Trial, Trial], objectives: Sequence[Objective], chance: float | None) -> Verdict:
    fewest = min((len(one.per_sample) for one in pair[0].scores), default=0)
    if 0 < fewest < FEWEST:
        return Verdict(False, f"on the data held out, {fewest} samples are too few to tell a gain from noise")
    gains = tuple(difference(*pair, objectives))
    if not gains:
        why = "the evaluator gives no values for each sample, so nobody can tell a gain from noise"
        return Verdict(False, why, chance)
    beats = clearly_better(*pair, objectives)
    words = " and ".join(f"{one.than('the average')}, {one.in_words}" for one in gains)
    return Verdict(beats, f"on the data held out, the best point is {words}", chance, gains)


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %" if share >= 0.001 else "less than 0.1 %"
