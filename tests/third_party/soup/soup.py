"""The recipe `soup`: `soup: [a, b, c]` is the plain average."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from mergecore import ConfigError, Document, Plan, PlanOptions, Recipe, Registry, hookimpl, plan
from mergecore.types import Json


def accepts(document: Mapping[str, Json]) -> bool:
    return "soup" in document


def compile_soup(document: Document, registry: Registry, options: PlanOptions) -> Plan:
    models = document.data["soup"]
    if not isinstance(models, list):
        raise ConfigError("E104", "'soup' is a list of models", place=document.place(("soup",)))
    entries: list[Json] = [{"model": model, "parameters": {"weight": 1}} for model in models]
    return plan({"merge_method": "linear", "models": entries}, registry=registry, options=options)


@hookimpl
def mergecore_recipes() -> Iterator[Recipe]:
    yield Recipe(name="soup", accepts=accepts, compile=compile_soup)
