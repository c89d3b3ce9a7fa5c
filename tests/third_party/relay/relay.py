"""The recipe `relay`: the average of two models, then of that and the next, and so on: one plan after the other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from mergecore import Document, Field, Params, Plan, Planner, Recipe, hookimpl
from mergecore.types import Json


class Relay(Params):
    relay: tuple[str, ...] = Field(min_length=2, description="the models")


def accepts(document: Mapping[str, Json]) -> bool:
    return "relay" in document


def compile_relay(document: Document, planner: Planner) -> Plan:
    first, *others = planner.read_document(Relay).relay
    for number, model in enumerate(others[:-1], 1):
        planner.before(f"leg-{number}", average(planner, first, model))
        first = f"leg-{number}"
    return average(planner, first, others[-1])


def average(planner: Planner, *models: str) -> Plan:
    entries = [{"model": model, "parameters": {"weight": 1}} for model in models]
    return planner.compile({"merge_method": "linear", "models": entries})


@hookimpl
def mergecore_recipes() -> Iterator[Recipe]:
    yield Recipe(name="relay", accepts=accepts, compile=compile_relay, schema=Relay)
