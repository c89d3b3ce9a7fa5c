"""{{ cookiecutter.name }}: `{{ cookiecutter.name }}: [A, B, C]` is the average of these models."""

from collections.abc import Iterator, Mapping

from mergecore import Document, Field, Params, Plan, Planner, Recipe, hookimpl
from mergecore.types import Json


class Average(Params):
    models: tuple[str, ...] = Field(alias="{{ cookiecutter.name }}", min_length=1, description="the models")


def accepts(document: Mapping[str, Json]) -> bool:
    return "{{ cookiecutter.name }}" in document


def compile_average(document: Document, planner: Planner) -> Plan:
    models = planner.read_document(Average).models
    entries = [{"model": model, "parameters": {"weight": 1}} for model in models]
    return planner.compile({"merge_method": "linear", "models": entries})


@hookimpl
def mergecore_recipes() -> Iterator[Recipe]:
    yield Recipe(name="{{ cookiecutter.name }}", accepts=accepts, compile=compile_average, schema=Average)
