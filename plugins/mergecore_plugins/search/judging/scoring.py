"""How good a model is: the numbers of the objectives, and when an evaluation is ended early; read `Judge`."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mergecore import ConfigError
from mergecore.types import EvaluatedModel, EvaluationProgress, Score
from mergecore_plugins.search.space.section import Objective

Evaluate = Callable[[EvaluatedModel, Callable[[EvaluationProgress], object] | None], Sequence[Score]]
"""The scores of a model by one evaluator; with a function that hears how far that is, they are made anew."""

LEAST, SURE = 20, 3.0
"""An evaluation is ended early after so many samples, where the model is worse by so many standard errors."""


class Pruned(Exception):
    """The evaluation need not go on; `score` is that of the samples that are done."""

    def __init__(self, score: Score) -> None:
        super().__init__()
        self.score = score


@dataclass(frozen=True)
class Scored:
    """What a judge says: a score for each objective, and the numbers that a search makes of them."""

    scores: tuple[Score, ...]
    values: tuple[float, ...]
    pruned: bool = False


@dataclass(frozen=True)
class Judge:
    """The objectives, each with what evaluates it."""

    objectives: tuple[Objective, ...]
    evaluators: tuple[Evaluate, ...]

    def score(self, model: EvaluatedModel, best: Score | None = None) -> Scored:
        """How good a model is.

        best: the score that it should reach: where the samples show that it will not, the evaluation is ended; None
            for no such end.
        """
        scores: list[Score] = []
        try:
            for objective, evaluate in zip(self.objectives, self.evaluators, strict=True):
                watch = None if best is None or len(self.objectives) > 1 else _Watch(objective, best)
                scores.append(chosen(objective, evaluate(model, watch)))
        except Pruned as error:
            return Scored((error.score,), (oriented(self.objectives[0], error.score),), pruned=True)
        return Scored(tuple(scores), values_of(self.objectives, scores))


def chosen(objective: Objective, scores: Sequence[Score]) -> Score:
    """The score that an objective names; the first where it names none.

    Raises:
        ConfigError: E104 when the evaluator has no such score.
    """
    found = [one for one in scores if objective.score in (None, one.name)]
    if not found:
        names = ", ".join(one.name for one in scores) or "none"
        what = f"the evaluator '{objective.evaluator}' has no score '{objective.score}'"
        raise ConfigError("E104", what, hint=f"its scores: {names}")
    return found[0]


def oriented(objective: Objective, score: Score) -> float:
    """The value of a score, of which more is better."""
    return score.value if (objective.goal or score.goal) == "max" else -score.value


def values_of(objectives: Sequence[Objective], scores: Sequence[Score]) -> tuple[float, ...]:
    """The numbers that a search makes of scores: one for each objective, or their weighted sum."""
    values = [oriented(one, score) for one, score in zip(objectives, scores, strict=True)]
    if objectives[0].weight is None:
        return tuple(values)
    return (sum((one.weight or 0) * value for one, value in zip(objectives, values, strict=True)),)


class _Watch:
    """Ends an evaluation once the samples show that the model is worse than the best."""

    def __init__(self, objective: Objective, best: Score) -> None:
        self._objective = objective
        self._best = best

    def __call__(self, progress: EvaluationProgress) -> None:
        best = self._best
        if progress.done >= progress.total or not progress.scores:
            return
        score = chosen(self._objective, progress.scores)
        if not math.isfinite(score.value):
            return  # the end says that it is no number
        sign = 1 if (self._objective.goal or score.goal) == "max" else -1
        if is_hopeless(score, best, sign):
            raise Pruned(score)


def is_hopeless(score: Score, best: Score, sign: int) -> bool:
    """Whether the samples that are done say that a model is worse than the best by far more than chance explains.

    sign: 1 where more is better, -1 where less is.
    """
    count = len(score.per_sample)
    if count < LEAST or len(best.per_sample) < count:
        return False
    weights = score.weights or (1.0,) * count
    mean_weight = sum(weights) / count
    if mean_weight <= 0:
        return False
    gains = [
        sign * weight / mean_weight * (ours - theirs)
        for weight, ours, theirs in zip(weights, score.per_sample, best.per_sample, strict=False)
    ]
    mean = sum(gains) / count
    spread = math.sqrt(sum((one - mean) ** 2 for one in gains) / (count - 1) / count)
    return mean < -SURE * spread
