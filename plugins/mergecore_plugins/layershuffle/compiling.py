"""Compiles a shuffle: layers are drawn, and a merge config with the slices that came out is planned.

Read `plan_shuffle`; `config_of` makes the config.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from mergecore.errors import Collector, ConfigError
from mergecore.types import Dropped
from mergecore_plugins.layershuffle.drawing import drawn, drawn_freely, runs
from mergecore_plugins.layershuffle.settings import Shuffle, ShuffleDocument

if TYPE_CHECKING:
    from mergecore import Document, Plan
    from mergecore.types import Json, Planner


def plan_shuffle(document: Document, planner: Planner) -> Plan:
    """The plan of the merge config that a shuffle comes down to.

    Raises:
        MergecoreError: what is wrong with the document or the models; several as `Problems`.
    """
    plan = planner.compile(config_of(document, planner))
    dropped = [Dropped(one.model, one.names, _reason(plan, one)) for one in plan.dropped]
    return replace(plan, dropped=tuple(dropped))


def _reason(plan: Plan, dropped: Dropped) -> str:
    """Why tensors are not in the output, in words of what a shuffle does."""
    facts = [plan.descriptions[dropped.model].tensors.get(name) for name in dropped.names]
    if not all(facts):
        return dropped.reason
    if all(one and one.layer is not None for one in facts):
        return "their layers were not drawn"
    where = "behind the last layer" if all(one and one.after for one in facts) else "before the first layer"
    return f"what comes {where} is of the model that gives that layer"


def config_of(document: Document, planner: Planner) -> dict[str, Json]:
    """The merge config with the layers that were drawn; errors as for `plan_shuffle`."""
    asked = planner.read_document(ShuffleDocument).layershuffle
    if not asked.models:
        place = document.place(("layershuffle", "models"))
        raise ConfigError(
            "E104", "no models are listed to draw from", place=place, hint="write '- model: NAME'"
        )
    counts = _layer_counts(asked, planner)
    own = document.data.get("seed", 0)
    seed = planner.options.seed if planner.options.seed is not None else own if isinstance(own, int) else 0
    draw = drawn_freely if asked.full_random else drawn
    names = _written(document)
    slices: list[Json] = [
        {"sources": [{"model": names[model], "layer_range": [first, end]}]}
        for model, first, end in runs(draw(counts, [one.weight for one in asked.models], seed))
    ]
    kept = {key: value for key, value in document.data.items() if key not in ("layershuffle", "seed")}
    return {
        "merge_method": "passthrough",
        "base_model": names[0],
        "slices": slices,
        **kept,
        "seed": seed,
        "x-layershuffle": document.data["layershuffle"],
    }


def _written(document: Document) -> list[Json]:
    """The models as the document names them."""
    asked = document.data["layershuffle"]
    models = asked["models"] if isinstance(asked, dict) else None
    return [one["model"] for one in models if isinstance(one, dict)] if isinstance(models, list) else []


def _layer_counts(asked: Shuffle, planner: Planner) -> list[int]:
    """How many layers each model has.

    Raises:
        MergecoreError: E113 for a model without layers, and what is wrong with any of them.
    """
    problems = Collector()
    counts = []
    for i, one in enumerate(asked.models):
        with problems.collecting():
            stack = planner.describe(planner.open(one.model, ("layershuffle", "models", i, "model"))).main
            if stack is None:
                what = f"'{one.model}': its tensors do not tell which of them are the layers"
                raise ConfigError("E113", what, hint="name a model whose layers are numbered, in one stack")
            counts.append(stack.count)
    problems.raise_any()
    return counts
