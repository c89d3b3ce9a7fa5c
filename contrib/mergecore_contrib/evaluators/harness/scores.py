"""The scores in the results of lm-eval, with the number of each sample; read `of_results`."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from mergecore.types import Score
from mergecore_contrib.evaluators.harness.running import Answers

Values = Sequence[Any]

_NO_METRIC = "bypass"
"""What lm-eval calls it when answers are only to be kept."""


def of_results(found: Mapping[str, Any], answers: Answers | None) -> Iterator[Score]:
    """A score for each metric of each task and group: `task/metric`, or `task/metric:filter` if there are filters."""
    samples = found.get("samples", {})
    for task, metrics in found["results"].items():
        for key, value in metrics.items():
            metric, _, kept = str(key).partition(",")
            if kept and metric != _NO_METRIC and not metric.endswith("_stderr") and _is_number(value):
                values = [
                    one[metric] for one in samples.get(task, ()) if one["filter"] == kept and metric in one
                ]
                name = f"{task}/{metric}" if kept == "none" else f"{task}/{metric}:{kept}"
                better = found.get("higher_is_better", {}).get(task, {}).get(metric)
                goal: Literal["max", "min"] = "min" if better is False else "max"
                count = len(values) or _count(found, task)
                yield _score(_word(name), float(value), goal, values, count, answers, task)


def _score(
    name: str,
    value: float,
    goal: Literal["max", "min"],
    values: Values,
    count: int,
    answers: Answers | None,
    task: str,
) -> Score:
    per_sample, weights, scale = _of_samples(value, values)
    shares: dict[str, float] = {}
    if answers is not None and (made := answers.count.get(task)):
        shares = {"truncated": answers.truncated[task] / made, "empty": answers.empty[task] / made}
    return Score(
        name=name,
        value=value,
        goal=goal,
        samples=count,
        per_sample=per_sample,
        weights=weights,
        scale=scale,
        truncated=shares.get("truncated"),
        empty=shares.get("empty"),
    )


Terms = tuple[tuple[float, ...], tuple[float, ...], Literal["mean", "exp"]]


def _of_samples(value: float, values: Values) -> Terms:
    """Numbers of single samples whose mean gives the value, if there are any.

    lm-eval keeps a log-likelihood for perplexities, with the words or bytes of the text where these count.
    """
    for per_sample, weights, scale in _readings(values):
        mean = math.fsum(a * b for a, b in zip(per_sample, weights or (1.0,) * len(per_sample), strict=True))
        mean /= math.fsum(weights) if weights else len(per_sample)
        given = math.exp(mean) if scale == "exp" and mean < 700 else mean
        if math.isclose(given, value, rel_tol=1e-9, abs_tol=1e-12):
            return per_sample, weights, scale
    return (), (), "mean"


def _readings(values: Values) -> Iterator[Terms]:
    if values and all(_is_number(one) for one in values):
        numbers = tuple(float(one) for one in values)
        yield numbers, (), "mean"
        yield tuple(-one for one in numbers), (), "exp"
    if values and all(_is_weighted(one) for one in values):
        losses = tuple(-float(one) / float(weight) for one, weight in values)
        weights = tuple(float(weight) for _, weight in values)
        yield losses, weights, "exp"
        yield tuple(one / math.log(2) for one in losses), weights, "mean"


def _is_number(value: Any) -> bool:
    return isinstance(value, bool | int | float) or (
        hasattr(value, "item") and getattr(value, "ndim", 1) == 0
    )


def _is_weighted(value: Any) -> bool:
    return (
        isinstance(value, tuple | list) and len(value) == 2 and all(map(_is_number, value)) and value[1] > 0
    )


def _count(found: Mapping[str, Any], task: str) -> int:
    """The samples of a group: those of its tasks."""
    sizes = found.get("n-samples", {})
    inner = found.get("group_subtasks", {}).get(task, ())
    if task in sizes:
        return int(sizes[task]["effective"])
    return sum(_count(found, one) for one in inner)


def _word(name: str) -> str:
    return re.sub(r"[^\w.:/@+-]", "_", name)
