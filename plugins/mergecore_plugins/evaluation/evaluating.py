"""Scores of a model by several evaluators; read `check_evaluations`, then `evaluate`."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from mergecore import Evaluator, PluginError, Registry
from mergecore.errors import Collector
from mergecore.types import EvaluatedModel, EvaluationProgress, Score, Watch
from mergecore_plugins.evaluation.cache import Cache, key_of
from mergecore_plugins.evaluation.faults import not_finite
from mergecore_plugins.evaluation.specs import Evaluation

WatchAll: TypeAlias = Callable[[Evaluation, EvaluationProgress], object]
"""Hears how far which evaluation is.  What it raises, such as `Pruned`, ends the evaluation."""


class Pruned(Exception):
    """What a watch may raise that has seen enough."""


@dataclass(frozen=True)
class Result:
    """What an evaluation says about a model.

    cached: whether it was known already.  seconds: how long it took.
    """

    evaluation: Evaluation
    scores: tuple[Score, ...]
    cached: bool = False
    seconds: float = 0.0


def check_evaluations(
    evaluations: Sequence[Evaluation], models: Sequence[EvaluatedModel], registry: Registry
) -> None:
    """Raise for all that is wrong with the data, and with models for them, at once; no weight is read.

    models: those that are known; none where they are still to be made.
    """
    problems = Collector()
    for one in evaluations:
        with problems.collecting(), registry.calling(Evaluator, one.evaluator.name):
            one.evaluator.check(one.params, models)
    problems.raise_any()


def evaluate(
    model: EvaluatedModel,
    evaluations: Sequence[Evaluation],
    registry: Registry,
    *,
    cache: Cache | None = None,
    watch: WatchAll | None = None,
) -> tuple[Result, ...]:
    """The scores of a model, in the order of the evaluations.

    cache: where scores are looked up and kept; None for nowhere.
    watch: hears of samples as they are done, of what is not known yet; what it raises passes.

    Raises:
        MergecoreError: what is wrong with the model or a plugin; E409 for a score that is not a finite number.
    """
    return tuple(_result(model, one, registry, cache, watch) for one in evaluations)


def _result(
    model: EvaluatedModel,
    evaluation: Evaluation,
    registry: Registry,
    cache: Cache | None,
    watch: WatchAll | None,
) -> Result:
    begun = time.perf_counter()
    key = key_of(model, evaluation, registry) if cache else ""
    known = cache.get(key) if cache else None
    if known is not None:
        return Result(evaluation, known, cached=True)
    scores = tuple(_scores(model, evaluation, registry, watch))
    if cache:
        cache.put(key, scores)
    return Result(evaluation, scores, seconds=time.perf_counter() - begun)


def _scores(
    model: EvaluatedModel, evaluation: Evaluation, registry: Registry, watch: WatchAll | None
) -> Iterator[Score]:
    """The scores, made now and checked."""
    evaluator = evaluation.evaluator
    raised: list[BaseException] = []
    try:
        with registry.calling(Evaluator, evaluator.name):
            said = list(evaluator.evaluate(model, evaluation.params, _watch(evaluation, watch, raised)))
    except Exception:
        if raised:
            raise raised[0] from None  # it is the caller's, and no fault of the plugin
        raise
    finally:
        if not evaluator.keeps_models:
            model.release()  # nobody knows what it did to the module
    if raised:
        raise raised[0]
    if not said:
        raise _fault(evaluator, "yields no score")
    for score in said:
        _check(score, model, evaluator)
        yield score


def _watch(evaluation: Evaluation, watch: WatchAll | None, raised: list[BaseException]) -> Watch:
    def hear(progress: EvaluationProgress) -> None:
        try:
            if watch is not None:
                watch(evaluation, progress)
        except BaseException as error:
            raised.append(error)
            raise

    return hear


def _check(score: Score, model: EvaluatedModel, evaluator: Evaluator[object]) -> None:  # type: ignore[type-var]
    """Raise for a score that cannot be used."""
    if not isinstance(score, Score):
        raise _fault(evaluator, f"yields {type(score).__name__} where Score is expected")
    count = len(score.per_sample)
    if count not in (0, score.samples) or len(score.weights) not in (0, count):
        raise _fault(evaluator, f"gives '{score.name}' of {score.samples} samples {count} numbers")
    if not all(map(math.isfinite, (score.value, *score.per_sample, *score.weights))):
        raise not_finite(model.name, f"'{score.name}'")


def _fault(evaluator: Evaluator[object], what: str) -> PluginError:  # type: ignore[type-var]
    told = f"the evaluator '{evaluator.name}' {what}"
    return PluginError("E605", told, hint="report it to the authors of the plugin")
