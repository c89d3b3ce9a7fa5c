"""Which plugins a plan names: all that took part, those of documents that a recipe has had compiled as well."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mergecore import Document, MergeMethod, Params, Plan, Planner, Recipe, plan
from mergecore.testing import registry_of, tiny_model


class Nothing(Params):
    """No parameters."""


def largest(group: Any, params: Nothing) -> Any:
    """The largest of the numbers."""
    return group.map(lambda block: block.x.amax(0))


LARGEST = MergeMethod(name="largest", merge=largest, params=Nothing)


def inner(document: Document, planner: Planner) -> Plan:
    models = [{"model": one} for one in document.data["soup"]]  # type: ignore[union-attr]
    return planner.compile({"merge_method": "largest", "models": models, "tokenizer": {"source": "union"}})


def taken_over(document: Document, planner: Planner) -> Plan:
    """The steps of another plan in one of its own."""
    made = inner(document, planner)
    return planner.plan(made.models, made.steps, planner.side_files(made.models, made.steps))


def nested(document: Document, planner: Planner) -> Plan:
    return planner.compile({**document.data, "recipe": "soup"})


def test_a_plan_names_what_its_recipe_has_had_compiled(tmp_path: Path) -> None:
    models: list[Any] = [str(tiny_model(tmp_path / str(seed), seed=seed)) for seed in (1, 2)]
    for compile_ in (inner, taken_over):
        soup = Recipe(name="soup", accepts=lambda data: "soup" in data, compile=compile_)
        stew = Recipe(name="stew", accepts=lambda data: False, compile=nested)
        registry = registry_of(LARGEST, soup, stew)
        made = plan({"soup": models}, registry=registry)
        wanted = {"soup", "largest", "union", "safetensors"}
        assert set(made.plugins) == wanted
        assert set(plan({"soup": models, "recipe": "stew"}, registry=registry).plugins) == {"stew", *wanted}
