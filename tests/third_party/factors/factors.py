"""The recipe `factors`: `factors: MODEL` keeps each matrix as two factors, and each vector as two halves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from factors_methods import METHODS

from mergecore import Document, Field, NoParams, Params, Plan, Planner, Recipe, hookimpl
from mergecore.types import Json, OutputTensor, SideFiles, Step, TensorInput


class Factors(Params):
    factors: str = Field(description="the model")


def accepts(document: Mapping[str, Json]) -> bool:
    return "factors" in document


def compile_factors(document: Document, planner: Planner) -> Plan:
    model = planner.open(planner.read_document(Factors).factors, ("factors",))
    steps = []
    for name, one in model.tensors.items():
        *rows, columns = one.shape
        least = min(*rows, columns) if rows else columns // 2
        shapes = ((*rows, least), (least, columns)) if rows else ((least,), (columns - least,))
        made = tuple(OutputTensor(f"{name}.{i}", "F32", shape) for i, shape in enumerate(shapes))
        steps.append(Step(made, (TensorInput(0, one),), "factor" if rows else "halve", NoParams()))
    return planner.plan([model], steps, SideFiles())


@hookimpl
def mergecore_recipes() -> Iterator[Recipe]:
    yield Recipe(name="factors", accepts=accepts, compile=compile_factors, schema=Factors, methods=METHODS)
