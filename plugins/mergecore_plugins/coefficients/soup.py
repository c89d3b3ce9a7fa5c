"""Greedy soup: of several fine-tunes, those are averaged that make the average no worse on data of yours."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from mergecore import Field, Params, Policy, hookimpl
from mergecore.errors import ConfigError, counted, did_you_mean
from mergecore.types import Coefficients, Json, PolicyRequest

if TYPE_CHECKING:
    from mergecore import Registry
    from mergecore_plugins.evaluation.specs import Evaluation


class SoupParams(Params):
    """Parameters of `soup`."""

    evaluators: Path = Field(description="a file of one evaluator, as for mergecore evaluate --with")
    score: str | None = Field(default=None, description="which score of it decides; by default its first")


def soup(request: PolicyRequest, params: SoupParams) -> Coefficients:
    """Weight 1 for models of the soup, 0 for others.

    Models are tried from the best to the worst alone; one stays when the average of those before and it scores no
    worse than without it.
    """
    method = request.method
    if method.space != "weight" or "weight" not in method.params.model_fields or method.models[0] > 1:
        what = f"soup chooses which models are averaged, which {method.name} does not do"
        raise ConfigError("E105", what, hint="use merge_method: linear")
    scoring = _Scoring.of(request, params)
    alone = [scoring([place]) for place in range(len(request.models))]
    order = sorted(range(len(alone)), key=lambda place: -alone[place])
    kept, best = order[:1], alone[order[0]]
    for place in order[1:]:
        with_it = scoring(sorted([*kept, place]))
        if with_it >= best:
            kept, best = [*kept, place], with_it
    names = ", ".join(request.models[place] for place in sorted(kept))
    notes = [
        f"{len(kept)} of {counted(len(order), 'model')} are averaged: {names}",
        f"{scoring.name} is {abs(best):.6g}; of the best model alone, {abs(alone[order[0]]):.6g}",
    ]
    weights: list[dict[str, Json]] = [
        {"weight": 1.0 if place in kept else 0.0} for place in range(len(order))
    ]
    return Coefficients(models=weights, notes=notes)


@dataclass
class _Scoring:
    """Scores the average of some models of a config: more is better."""

    request: PolicyRequest
    evaluation: Evaluation
    registry: Registry
    wanted: str | None
    name: str = ""

    @classmethod
    def of(cls, request: PolicyRequest, params: SoupParams) -> _Scoring:
        from mergecore import Registry
        from mergecore_plugins.evaluation.evaluating import check_evaluations
        from mergecore_plugins.evaluation.specs import read_file

        registry = Registry.discover()
        found = read_file(params.evaluators, registry)
        if len(found) != 1:
            what = f"{params.evaluators} names {len(found)} evaluators; one is expected, which decides"
            raise ConfigError("E104", what, hint="write a file with that one")
        check_evaluations(found, (), registry)
        return cls(request, found[0], registry, params.score)

    def __call__(self, places: Sequence[int]) -> float:
        from mergecore_plugins.evaluation.cache import Cache, default_folder
        from mergecore_plugins.evaluation.evaluating import evaluate
        from mergecore_plugins.evaluation.models import Place, opened

        written = cast("list[dict[str, Any]]", self.request.config["models"])
        entries = [one for one in written if str(one.get("model")) in self.request.models]
        listed = [
            {**entries[place], "parameters": {**(entries[place].get("parameters") or {}), "weight": 1.0}}
            for place in places
        ]
        made = self.request.planner.compile({**self.request.config, "models": listed})
        place = Place(self.registry, offline=self.request.planner.options.offline)
        model = opened(made, name=f"the average of {counted(len(places), 'model')}", place=place)
        [result] = evaluate(model, [self.evaluation], self.registry, cache=Cache(default_folder()))
        model.release()
        known = {score.name: score for score in result.scores}
        self.name = self.wanted or result.scores[0].name
        if self.name not in known:
            what = f"{self.evaluation.name} gives no score '{self.name}'{did_you_mean(self.name, [*known])}"
            raise ConfigError("E105", what, hint=f"it gives {', '.join(known)}")
        score = known[self.name]
        return score.value if score.goal == "max" else -score.value


@hookimpl
def mergecore_policies() -> Iterator[Policy[SoupParams]]:
    yield Policy(
        name="soup",
        choose=soup,
        params=SoupParams,
        summary="which models to average, by a score (greedy soup)",
        paper="arXiv:2203.05482",
    )
