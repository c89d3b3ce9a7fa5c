"""`mergecore layershuffle`, and the recipe behind it: a model whose layers are drawn from several models.

The hooks are here; `settings.py` is what can be written, `drawing.py` draws, `compiling.py` makes the plan.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import click

from mergecore import Plan, Recipe, hookimpl
from mergecore.types import Json
from mergecore_plugins.layershuffle.command import layershuffle

if TYPE_CHECKING:
    from mergecore import Document
    from mergecore.types import Planner
    from mergecore_plugins.layershuffle.settings import ShuffleDocument


@hookimpl
def mergecore_commands() -> Iterator[click.Command]:
    """Yield the command `layershuffle`."""
    yield layershuffle


@hookimpl
def mergecore_recipes() -> Iterator[Recipe]:
    """Yield the recipe for documents with the key `layershuffle`."""
    yield Recipe(
        name="layershuffle",
        accepts=_accepts,
        compile=_compile,
        schema=_schema,
        summary="a model whose layers are drawn from several models",
    )


def _accepts(document: Mapping[str, Json]) -> bool:
    return "layershuffle" in document


def _schema() -> type[ShuffleDocument]:
    from mergecore_plugins.layershuffle.settings import ShuffleDocument

    return ShuffleDocument


def _compile(document: Document, planner: Planner) -> Plan:
    from mergecore_plugins.layershuffle.compiling import plan_shuffle

    return plan_shuffle(document, planner)
