"""Evaluators as a search is asked to use them: checked before any weight is read; read `asked_for`, then `judge_of`."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mergecore import Document, Evaluator, Params, PolicyError, Registry
from mergecore.config import Choice, read_params
from mergecore.errors import Collector
from mergecore.types import EvaluatedModel, EvaluationProgress, Json, Score
from mergecore_plugins.search.judging.scoring import Judge
from mergecore_plugins.search.space.places import placed
from mergecore_plugins.search.space.section import Objective, SearchSection

_OWN = ("evaluator", "name", "score", "goal", "weight")


@dataclass(frozen=True)
class Asked:
    """An evaluator with its parameters, and how tables call it."""

    evaluator: Evaluator[Any]
    params: Params
    label: str

    def __call__(
        self, model: EvaluatedModel, watch: Callable[[EvaluationProgress], object]
    ) -> Sequence[Score]:
        """Its scores of a model."""
        return list(self.evaluator.evaluate(model, self.params, watch))

    def identity(self, registry: Registry) -> str:
        """A digest of what decides its scores beside the model: plugin, parameters, and the content of files."""
        plugin = registry.provider(Evaluator, self.evaluator.name)
        said = [plugin.distribution, plugin.version, self.evaluator.name]
        files = [hashlib.sha256(path.read_bytes()).hexdigest() for path in self.evaluator.files(self.params)]
        values = {
            key: one
            for key, one in self.params.model_dump(mode="json").items()
            if not _is_path(self.params, key)
        }
        return hashlib.sha256(repr((said, sorted(values.items()), files)).encode()).hexdigest()


def _is_path(params: Params, key: str) -> bool:
    value = getattr(params, key, None)
    return isinstance(value, Path) or (
        isinstance(value, tuple) and any(isinstance(one, Path) for one in value)
    )


def asked_for(
    entries: Sequence[Mapping[str, Json]], document: Document, registry: Registry
) -> tuple[Asked, ...]:
    """The evaluators that entries name, with their parameters; no weight is read.

    Raises:
        MergecoreError: E108 or E606 for a name, E104, E105 or E109 for parameters, what is wrong with data; several as
            `Problems`.
    """
    problems = Collector()
    found = []
    for index, entry in enumerate(entries):
        path = ("search", "objectives", index)
        with problems.collecting():
            name = str(entry["evaluator"])
            with placed(document.place((*path, "evaluator"))):
                evaluator: Evaluator[Any] = registry.get(Evaluator, name)
            values = {key: one for key, one in entry.items() if key not in _OWN}
            choice = Choice(Evaluator, name, values, path, (*path, "evaluator"), _OWN, document)
            params = _resolved(read_params(evaluator.params, choice), Path(document.name).parent)
            with placed(document.place(path)), registry.calling(Evaluator, name):
                evaluator.check(params, ())
            found.append(Asked(evaluator, params, str(entry.get("name") or name)))
    problems.raise_any()
    return tuple(found)


def _resolved(params: Params, folder: Path) -> Params:
    """Parameters whose paths begin where the file that names them lies."""

    def moved(value: object) -> object:
        if isinstance(value, Path):
            return folder / value
        return tuple(map(moved, value)) if isinstance(value, tuple) else value

    values = {name: getattr(params, name) for name in type(params).model_fields}
    update = {name: new for name, one in values.items() if (new := moved(one)) != one}
    return params.model_copy(update=update) if update else params


def check_test_sets(asked: Sequence[Asked], section: SearchSection, document: Document) -> None:
    """Raise E310 for every objective that is the public test set of a benchmark, unless that is insisted on."""
    problems = Collector()
    for index, one in enumerate(asked):
        benchmark = one.evaluator.public_test_set(one.params)
        if benchmark and not section.allow_public_test_sets:
            what = (
                f"'{one.label}' is the public test set of {benchmark}: a model that is chosen by it says nothing "
                "of how good it is"
            )
            hint = "search on other data; --allow-public-test-sets insists"
            place = document.place(("search", "objectives", index))
            problems.add(PolicyError("E310", what, place=place, hint=hint))
    problems.raise_any()


def judge_of(objectives: Sequence[Objective], asked: Sequence[Asked]) -> Judge:
    """What scores models by these."""
    return Judge(tuple(objectives), tuple(asked))
