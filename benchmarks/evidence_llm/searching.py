"""Merges tuned by `mergecore search`: on the validation samples, and shown the test samples once; read `searched`.

The search is that of the command: a config with ranges, `answers` as its objective, the test samples held out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.evidence_llm.merging import Bench, Outcome, Result
from benchmarks.evidence_llm.scoring import Judged, scores
from benchmarks.methods import CASES, Case, Setting, setting_config

from mergecore.types import EvaluatedModel, Score
from mergecore_plugins.search.judging.bench import Asked
from mergecore_plugins.search.searching import carried_out, prepared

TIE = 1e-6
"""What a unit of loss takes from a right answer: of points with as many right answers, the lower loss wins."""


@dataclass(frozen=True)
class Search:
    """What is searched of a setting: ranges of its own parameters and of those of each expert, as configs write them.

    start: the point to begin with, by the names that `mergecore search` gives.
    """

    name: str
    setting: Setting
    parameters: Mapping[str, str] = field(default_factory=dict)
    per_model: Mapping[str, str] = field(default_factory=dict)
    trials: int = 12
    sampler: str = "tpe"
    start: Sequence[Mapping[str, float]] = ()


SEARCHES = (
    Search(
        "task_arithmetic, lambda by search",
        Setting("task_arithmetic", CASES["task_arithmetic"], "lambda"),
        {"lambda": "!range [0.2, 2.5]"},
        start=[{"lambda": 1.0}],
    ),
    Search(
        "ties, density and lambda by search",
        Setting("ties", Case(per_model={"density": 0.2}), "lambda"),
        {"lambda": "!range [0.2, 3.0]"},
        {"density": "!range {low: 0.05, high: 1.0, name: density}"},
        trials=16,
        start=[{"lambda": 1.0, "density": 0.2}],
    ),
    Search(
        "dare_linear, weight of each expert by search",
        Setting("dare_linear", CASES["dare_linear"], "lambda"),
        per_model={"weight": "!range [0.2, 2.5]"},
        trials=16,
        start=[{"sums.weight": 1.0, "json.weight": 1.0, "facts.weight": 1.0}],
    ),
)


def searched(bench: Bench, search: Search) -> Outcome:
    """What a search finds, and what the setting is without one; a search that was stopped goes on."""
    folder = bench.journal.with_suffix("") / f"search-{bench.stamp}" / search.name.replace(", ", "-")
    folder.mkdir(parents=True, exist_ok=True)

    def made() -> Result:
        (folder / "search.yml").write_text(_config(bench, search, folder), encoding="utf8")
        asked = Asked(str(folder / "search.yml"), dtype="float32", threads=1)
        found = carried_out(
            prepared(asked), folder / "found", mode="resume" if (folder / "found").exists() else "new"
        )
        tested = found.rows[0].trial.scores[0].per_sample
        return _result(tested, {task: len(those) for task, those in bench.parts["test"].items()})

    tuned = bench.kept(f"search of {search.trials} points: {search.name}", "test", made)
    default = bench.scored(search.setting, None, "test")
    return Outcome(default, tuned, None, {}, _point(folder / "found/search.json"))


def answers(model: EvaluatedModel, samples: str) -> Score:
    """The objective: the right answers to the samples of a file, each task counting the same."""
    tasks = json.loads(Path(samples).read_text(encoding="utf8"))
    found = scores(model.module(), tasks)
    values = [value for one in found.values() for value in _values(one)]
    weights = [1 / len(one.right) for one in found.values() for _ in one.right]
    mean = sum(value * weight for value, weight in zip(values, weights, strict=True)) / sum(weights)
    return Score(
        name="answers",
        value=mean,
        goal="max",
        samples=len(values),
        per_sample=tuple(values),
        weights=tuple(weights),
    )


def _values(one: Judged) -> list[float]:
    return [hit - TIE * loss for hit, loss in zip(one.right, one.losses, strict=True)]


def _result(values: Sequence[float], counts: Mapping[str, int]) -> Result:
    """Right answers and losses out of the values of all samples."""
    right, loss, left = {}, {}, list(values)
    for task, count in counts.items():
        those, left = left[:count], left[count:]
        right[task] = [value > 0.5 for value in those]
        loss[task] = sum((value > 0.5) - value for value in those) / TIE / count
    return Result(right, loss)


def _config(bench: Bench, search: Search, folder: Path) -> str:
    """The config of a search, whose samples are written beside it."""
    for part, tasks in bench.parts.items():
        text = json.dumps({task: list(those) for task, those in tasks.items()})
        (folder / f"{part}.json").write_text(text, encoding="utf8")
    config: dict[str, Any] = dict(
        setting_config(search.setting, bench.models.base, list(bench.models.experts.values()), None)
    )
    config["seed"] = bench.seed
    config["parameters"] = {**config.get("parameters", {}), **{one: f"@{one}" for one in search.parameters}}
    for entry in config["models"]:
        entry["parameters"] = {**entry["parameters"], **{one: f"@{one}" for one in search.per_model}}
    config["search"] = {
        "sampler": search.sampler,
        "trials": search.trials,
        "seed": bench.seed,
        "prune": False,
        "objectives": [{"evaluator": f"python:{__name__}:answers", **_asked(folder / "validation.json")}],
        "holdout": _asked(folder / "test.json"),
        "start": [dict(one) for one in search.start],
    }
    text = json.dumps(config, indent=1)
    for name, ranged in {**search.parameters, **search.per_model}.items():
        text = text.replace(f'"@{name}"', ranged)
    return text + "\n"


def _asked(samples: Path) -> dict[str, Any]:
    return {"arguments": {"samples": str(samples.absolute())}, "data": str(samples.absolute())}


def _point(file: Path) -> str:
    """The best point of a search, as in `lambda 0.93`."""
    point = json.loads(file.read_text(encoding="utf8"))["best"]["point"]
    return ", ".join(
        f"{name} {value:.2f}" if isinstance(value, float) else f"{name} {value}"
        for name, value in point.items()
    )
