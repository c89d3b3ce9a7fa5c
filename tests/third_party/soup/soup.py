"""The recipe `soup`: `soup: [a, b, c]` is the plain average."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from mergecore import Document, Field, Params, Plan, Planner, Recipe, hookimpl
from mergecore.types import Json


class Soup(Params):
    soup: tuple[str, ...] = Field(min_length=1, description="the models")


def accepts(document: Mapping[str, Json]) -> bool:
    return "soup" in document


def compile_soup(document: Document, planner: Planner) -> Plan:
    models = planner.read_document(Soup).soup
    entries = [{"model": model, "parameters": {"weight": 1}} for model in models]
    return planner.compile({"merge_method": "linear", "models": entries})


@hookimpl
def mergecore_recipes() -> Iterator[Recipe]:
    yield Recipe(name="soup", accepts=accepts, compile=compile_soup, schema=Soup)
