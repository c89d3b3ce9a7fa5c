"""`mergecore transplant`, and the recipe behind it: a model gets the tokenizer of another one.

The hooks are here; `settings.py` is what can be written, `compiling.py` makes the plan, `filling.py` the rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import click

from mergecore import Plan, Recipe, hookimpl
from mergecore.types import Json
from mergecore_plugins.transplant.command import transplant
from mergecore_plugins.transplant.methods import methods

if TYPE_CHECKING:
    from mergecore import Document
    from mergecore.types import Planner
    from mergecore_plugins.transplant.document import TransplantDocument


@hookimpl
def mergecore_commands() -> Iterator[click.Command]:
    """Yield the command `transplant`."""
    yield transplant


@hookimpl
def mergecore_recipes() -> Iterator[Recipe]:
    """Yield the recipe for documents with the key `transplant`."""
    yield Recipe(
        name="transplant",
        summary="a model with the tokenizer of another one",
        accepts=_accepts,
        compile=_compile,
        schema=_schema,
        methods=methods(),
    )


def _accepts(document: Mapping[str, Json]) -> bool:
    return "transplant" in document


def _schema() -> type[TransplantDocument]:
    from mergecore_plugins.transplant.document import TransplantDocument

    return TransplantDocument


def _compile(document: Document, planner: Planner) -> Plan:
    from mergecore_plugins.transplant.compiling import plan_transplant

    return plan_transplant(planner)
