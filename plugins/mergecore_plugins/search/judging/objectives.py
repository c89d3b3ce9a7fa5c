"""Evaluators as a search is asked to use them: checked before any weight is read; read `asked_for`, then `judge_of`."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mergecore import ConfigError, Document, Evaluator, Params, PolicyError, Registry
from mergecore.errors import Collector
from mergecore.types import EvaluatedModel, EvaluationProgress, Json, Score
from mergecore_plugins.evaluation.cache import Cache, default_folder
from mergecore_plugins.evaluation.evaluating import check_evaluations, evaluate
from mergecore_plugins.evaluation.specs import Evaluation, read_evaluations
from mergecore_plugins.search.judging.scoring import Judge
from mergecore_plugins.search.space.reading import KEY
from mergecore_plugins.search.space.section import Objective, SearchSection

_OWN = ("score", "goal", "weight")
"""Keys of an objective that are none of an evaluation."""


@dataclass(frozen=True)
class Asked:
    """An evaluation, and the plugins that it is made with."""

    evaluation: Evaluation
    registry: Registry

    def __call__(
        self, model: EvaluatedModel, watch: Callable[[EvaluationProgress], object] | None
    ) -> Sequence[Score]:
        """Its scores of a model; without a watch, they may be known from another search."""
        if watch is None:
            cache = Cache(default_folder())
            (result,) = evaluate(model, [self.evaluation], self.registry, cache=cache)
        else:
            hear = watch
            (result,) = evaluate(model, [self.evaluation], self.registry, watch=lambda _, one: hear(one))
        return result.scores

    @property
    def identity(self) -> str:
        """A digest of what decides its scores beside the model: plugin, parameters, and the content of files."""
        return self._digest(())

    @property
    def data(self) -> str:
        """The same however many samples are taken: two that share it look at the same data."""
        return self._digest(("limit",))

    @property
    def data_files(self) -> dict[Path, str]:
        """The files that it reads, but for programs, with their digests."""
        files = [path for path in self.evaluation.files if path.suffix != ".py"]
        return {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}

    def _digest(self, without: Sequence[str]) -> str:
        plugin = self.registry.provider(Evaluator, self.evaluation.evaluator.name)
        said = [plugin.distribution, plugin.version, self.evaluation.evaluator.name]
        files = [hashlib.sha256(path.read_bytes()).hexdigest() for path in self.evaluation.files]
        params = self.evaluation.params
        dumped = params.model_dump(mode="json").items()
        plain = {key: one for key, one in dumped if key not in without and not _is_path(params, key)}
        return hashlib.sha256(repr((said, sorted(plain.items()), files)).encode()).hexdigest()

    def compared(self, model: EvaluatedModel) -> Iterable[EvaluatedModel]:
        """The other models that its scores of a model depend on."""
        return self.evaluation.evaluator.compared(model, self.evaluation.params)


def _is_path(params: Params, key: str) -> bool:
    value = getattr(params, key, None)
    many = value if isinstance(value, tuple) else (value,)
    return any(isinstance(one, Path) for one in many)


def asked_for(
    entries: Sequence[Mapping[str, Json]], document: Document, registry: Registry, key: str = "objectives"
) -> tuple[Asked, ...]:
    """The evaluations that entries describe; no weight is read.

    key: where in the section they are written, for errors.

    Raises:
        MergecoreError: what is wrong with names, parameters and data, several as `Problems`.
    """
    if not entries:
        return ()
    listed: list[Json] = [{key: one for key, one in entry.items() if key not in _OWN} for entry in entries]
    alone = replace(document, data={KEY: {key: listed}})
    found = read_evaluations(alone, registry, Path(document.name).parent, (KEY, key))
    check_evaluations(found, (), registry)
    return tuple(Asked(one, registry) for one in found)


def check_test_sets(asked: Sequence[Asked], section: SearchSection, document: Document) -> None:
    """Raise E310 for every objective that is the public test set of a benchmark, unless that is insisted on."""
    problems = Collector()
    for index, one in enumerate(asked):
        benchmark = one.evaluation.evaluator.public_test_set(one.evaluation.params)
        if benchmark and not section.allow_public_test_sets:
            what = (
                f"'{one.evaluation.name}' is the public test set of {benchmark}: a model that is chosen by it says "
                "nothing of how good it is"
            )
            hint = "search on other data; --allow-public-test-sets insists"
            place = document.place(("search", "objectives", index))
            problems.add(PolicyError("E310", what, place=place, hint=hint))
    problems.raise_any()


def check_held_out(
    asked: Sequence[Asked], held_out: Sequence[Asked], section: SearchSection, document: Document
) -> None:
    """Raise E104 for all data held out that an objective looks at too, under whatever name."""
    problems = Collector()
    seen = {one.data: one.evaluation.name for one in asked}
    for index, one in enumerate(held_out):
        if one.data in seen:
            what = (
                f"'holdout' has the data of the objective '{seen[one.data]}': points are chosen by it, so it cannot "
                "say how good they are"
            )
            path = ("search", "holdout") if len(section.holdout) == 1 else ("search", "holdout", index)
            hint = "name data that no objective looks at, or leave 'holdout' out"
            problems.add(ConfigError("E104", what, place=document.place(path), hint=hint))
    problems.raise_any()


def shared_files(asked: Sequence[Asked], held_out: Sequence[Asked]) -> list[str]:
    """What to say of files of data that objectives and the data held out share, though they are read otherwise."""
    seen = {digest for one in asked for digest in one.data_files.values()}
    shared = {path: None for one in held_out for path, digest in one.data_files.items() if digest in seen}
    return [
        f"'holdout' reads {path}, as an objective does: samples that points are chosen by say nothing of how good "
        "they are"
        for path in shared
    ]


def judge_of(objectives: Sequence[Objective], asked: Sequence[Asked]) -> Judge:
    """What scores models by these."""
    return Judge(tuple(objectives), tuple(asked))
