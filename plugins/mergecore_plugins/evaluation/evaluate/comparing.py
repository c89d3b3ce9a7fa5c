"""Models side by side: what is evaluated, by what, and how they differ; read `compare`."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import click

from mergecore import ConfigError, Evaluator, InputError, Registry
from mergecore.errors import Collector, did_you_mean
from mergecore.types import EvaluationProgress, Json, Score
from mergecore_plugins.evaluation.cache import Cache, default_folder
from mergecore_plugins.evaluation.evaluate.sweeping import Sweep, swept
from mergecore_plugins.evaluation.evaluating import Result, check_evaluations, evaluate
from mergecore_plugins.evaluation.models import Place, PlannedModel, is_config, opened
from mergecore_plugins.evaluation.specs import Evaluation, read_file
from mergecore_plugins.evaluation.statistics import interval, paired

HIGH = 0.1
"""The share of answers that are cut off or empty above which there is a warning."""
UNFIT = ("E240", "E271")
"""The codes of what is wrong with a model for an evaluator, but not with the evaluation."""


@dataclass(frozen=True)
class Asked:
    """What is asked for; the options of the command."""

    files: Sequence[Path]
    parents: bool = True
    against: str | None = None
    limit: int | None = None
    device: str = "cpu"
    dtype: str = "auto"
    seed: int = 0
    cache: Path | None = None
    no_cache: bool = False
    offline: bool = False
    sweep: Sweep | None = None


@dataclass
class Entry:
    """A model, and what is known about it; `unfit` says by evaluation why it cannot be evaluated so.

    at: the value that a sweep gives it.
    """

    model: PlannedModel
    given: bool
    at: float | None = None
    results: dict[str, Result] = field(default_factory=dict)
    unfit: dict[str, str] = field(default_factory=dict)


@dataclass
class Comparison:
    """Models by several evaluations."""

    asked: Asked
    evaluations: Sequence[Evaluation]
    entries: Sequence[Entry]
    against: str

    def as_json(self) -> dict[str, Json]:
        """All of it as plain values."""
        return {
            "device": self.asked.device,
            "dtype": self.asked.dtype,
            "seed": self.asked.seed,
            "against": self.against,
            "sweep": self.asked.sweep.name if self.asked.sweep else None,
            "models": [_model(one) for one in self.entries],
            "evaluations": [self._evaluation(one) for one in self.evaluations],
            "warnings": [*self.warnings()],
        }

    def warnings(self) -> Iterator[str]:
        """What should be known of the scores; what keeps a model from several evaluations is said once."""
        unfit: dict[str, list[str]] = {}
        for evaluation in self.evaluations:
            for entry in self.entries:
                if entry.given and evaluation.name in entry.unfit:
                    unfit.setdefault(entry.unfit[evaluation.name], []).append(evaluation.name)
        yield from (f"{', '.join(names)}: {why}" for why, names in unfit.items())
        for evaluation in self.evaluations:
            for entry in self.entries:
                result = entry.results.get(evaluation.name)
                for score in result.scores if result else ():
                    yield from _about_answers(f"{evaluation.name}: {entry.model.name}", score)

    def _evaluation(self, evaluation: Evaluation) -> dict[str, Json]:
        names = dict.fromkeys(
            score.name
            for entry in self.entries
            if evaluation.name in entry.results
            for score in entry.results[evaluation.name].scores
        )
        return {
            "name": evaluation.name,
            "evaluator": evaluation.evaluator.name,
            "params": evaluation.params.model_dump(mode="json"),
            "scores": [self._score(evaluation.name, name) for name in names],
        }

    def _score(self, evaluation: str, name: str) -> dict[str, Json]:
        """One score of all models, and how they differ from the one they are compared with."""
        scores = {entry.model.name: _named(entry.results.get(evaluation), name) for entry in self.entries}
        found = [score for score in scores.values() if score]
        best = (max if found[0].goal == "max" else min)(score.value for score in found)
        rows: list[Json] = []
        for entry in self.entries:
            score, result = scores[entry.model.name], entry.results.get(evaluation)
            if score is None or result is None:
                rows.append(
                    {"model": entry.model.name, "value": None, "why": entry.unfit.get(evaluation, "")}
                )
                continue
            ends = interval(score, self.asked.seed)
            about: dict[str, Any] = {
                key: value for key, value in asdict(score).items() if key not in ("name", "goal")
            }
            rows.append(
                {
                    "model": entry.model.name,
                    **{
                        key: list(value) if isinstance(value, tuple) else value
                        for key, value in about.items()
                    },
                    "low": ends.low if ends else None,
                    "high": ends.high if ends else None,
                    "best": score.value == best and len(found) > 1,
                    "cached": result.cached,
                    "seconds": round(result.seconds, 3),
                }
            )
        return {
            "name": name,
            "goal": found[0].goal,
            "results": rows,
            "differences": [*self._differences(scores)],
        }

    def _differences(self, scores: dict[str, Score | None]) -> Iterator[Json]:
        other = scores[self.against]
        for name, score in scores.items():
            if name != self.against and score and other:
                found = asdict(paired(score, other, self.asked.seed))
                yield {"model": name, "against": self.against, **found}


def _model(entry: Entry) -> dict[str, Json]:
    model = entry.model
    return {
        "name": model.name,
        "identity": model.identity,
        "merge": model.source is None,
        "parents": [one.name for one in model.parents],
        "given": entry.given,
        "at": entry.at,
    }


def _named(result: Result | None, name: str) -> Score | None:
    return next((score for score in result.scores if score.name == name), None) if result else None


def _about_answers(where: str, score: Score) -> Iterator[str]:
    if (score.truncated or 0) >= HIGH:
        yield f"{where}: {score.truncated:.0%} of the answers are cut off; allow more tokens"
    if (score.empty or 0) >= HIGH:
        yield f"{where}: {score.empty:.0%} of the answers are empty"


# ---- what is done ------------------------------------------------------------------------------------------


def compare(names: Sequence[str], asked: Asked, registry: Registry) -> Comparison:
    """Evaluate models, and the parents of merges, by all evaluations of files.

    Raises:
        MergecoreError: everything that is wrong with files, configs, models and data, before any weight is read.
    """
    place = Place(registry, asked.device, asked.dtype, asked.offline)
    problems = Collector()
    evaluations: list[Evaluation] = []
    entries: list[Entry] = []
    for file in asked.files:
        with problems.collecting():
            evaluations += read_file(file, registry)
    if asked.limit is not None:
        with problems.collecting():
            evaluations = [one.limited(asked.limit) for one in evaluations]
    for name in dict.fromkeys(names):
        with problems.collecting():
            entries += _given(name, asked.sweep, place)
    if asked.sweep is not None:
        with problems.collecting():
            _check_swept(names)
    with problems.collecting():
        check_evaluations(evaluations, (), registry)
        _check_names(evaluations)
    problems.raise_any()
    entries += _parents(entries) if asked.parents else []
    against = _against(asked, entries)
    _check_fit(evaluations, entries, registry)
    cache = None if asked.no_cache else Cache(asked.cache or default_folder())
    for entry in entries:
        _evaluate(entry, evaluations, registry, cache)
    return Comparison(asked, evaluations, entries, against)


def _given(name: str, sweep: Sweep | None, place: Place) -> list[Entry]:
    """What a name stands for: a model, or a config at each value of a sweep."""
    if sweep is None or not is_config(name):
        return [Entry(opened(name, place=place), given=True)]
    made = swept(name, sweep, place)
    return [Entry(one, True, at) for one, at in zip(made, sweep.values, strict=True)]


def _check_swept(names: Sequence[str]) -> None:
    """Raise E115 unless one config is swept."""
    configs = [name for name in dict.fromkeys(names) if is_config(name)]
    if len(configs) != 1:
        what = f"--sweep: {len(configs)} configs are named; one is expected"
        raise ConfigError("E115", what, hint="name the config whose number is to be tried")


def _check_names(evaluations: Sequence[Evaluation]) -> None:
    names = [one.name for one in evaluations]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        what = f"two evaluations are called '{twice[0]}'"
        raise ConfigError("E105", what, hint="give one of them another 'name'")


def _parents(entries: Sequence[Entry]) -> list[Entry]:
    """What the models were merged from, beside what is there already."""
    known = {one.model.identity: one for one in entries}
    found: list[Entry] = []
    for entry in entries:
        for parent in entry.model.parents:
            if isinstance(parent, PlannedModel) and parent.identity not in known:
                known[parent.identity] = Entry(parent, given=False)
                found.append(known[parent.identity])
    return found


def _against(asked: Asked, entries: Sequence[Entry]) -> str:
    """The name of the model that others are compared with."""
    names = [one.model.name for one in entries]
    if asked.against is None:
        return names[0]
    if asked.against not in names:
        near = did_you_mean(asked.against, names)
        what = f"--against: '{asked.against}' is not one of the models{near}"
        raise ConfigError("E115", what, hint=f"they are {', '.join(names)}")
    return asked.against


def _check_fit(evaluations: Sequence[Evaluation], entries: Sequence[Entry], registry: Registry) -> None:
    """Note which model cannot be evaluated by what; raise where none that is given can, and for all else."""
    problems = Collector()
    for one in evaluations:
        refused: list[tuple[str, InputError]] = []
        for entry in entries:
            try:
                with registry.calling(Evaluator, one.evaluator.name):
                    one.evaluator.check(one.params, (entry.model,))
            except InputError as error:
                if error.code not in UNFIT:
                    raise
                entry.unfit[one.name] = str(error)
                refused += [(entry.model.name, error)] if entry.given else []
        if len(refused) == sum(entry.given for entry in entries):
            for fault in _together(refused):
                problems.add(fault)
    problems.raise_any()


def _together(refused: Sequence[tuple[str, InputError]]) -> list[InputError]:
    """The errors of models, those that say the same of several models as one."""
    found: dict[tuple[str, str, str | None], list[tuple[str, InputError]]] = {}
    for name, error in refused:
        found.setdefault((error.code, error.what.removeprefix(f"{name}: "), error.hint), []).append(
            (name, error)
        )
    return [
        same[0][1]
        if len(same) == 1
        else InputError(code, f"{', '.join(name for name, _ in same)}: {what}", hint=hint)
        for (code, what, hint), same in found.items()
    ]


def _evaluate(
    entry: Entry, evaluations: Sequence[Evaluation], registry: Registry, cache: Cache | None
) -> None:
    fit = [one for one in evaluations if one.name not in entry.unfit]

    def watch(evaluation: Evaluation, progress: EvaluationProgress) -> None:
        if sys.stderr.isatty():
            told = f"{evaluation.name}: {entry.model.name}: {progress.done} of {progress.total}"
            click.echo(f"\r\033[K{told[:78]}", nl=False, err=True)

    for result in evaluate(entry.model, fit, registry, cache=cache, watch=watch):
        entry.results[result.evaluation.name] = result
    if sys.stderr.isatty():
        click.echo("\r\033[K", nl=False, err=True)
    entry.model.release()
