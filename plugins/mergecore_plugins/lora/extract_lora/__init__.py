"""`mergecore extract-lora` and the recipe behind it: a fine-tune less its base.

The hooks are here; `settings.py` is what can be written, `compiling.py` makes the plan, `decomposing.py` the factors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

import click

from mergecore import Plan, Recipe, hookimpl
from mergecore.types import Finished, Json
from mergecore_plugins.lora.extract_lora.command import extract_lora
from mergecore_plugins.lora.extract_lora.methods import methods

if TYPE_CHECKING:
    from torch import Tensor

    from mergecore import Document
    from mergecore.types import Planner
    from mergecore_plugins.lora.extract_lora.settings import ExtractionDocument


@hookimpl
def mergecore_commands() -> Iterator[click.Command]:
    """Yield the command `extract-lora`."""
    yield extract_lora


@hookimpl
def mergecore_recipes() -> Iterator[Recipe]:
    """Yield the recipe for documents with the key `extract_lora`."""
    yield Recipe(
        name="extract_lora",
        summary="an adapter: a fine-tune less its base",
        accepts=_accepts,
        compile=_compile,
        schema=_schema,
        methods=methods(),
        finish=_finish,
    )


def _finish(plan: Plan, read: Callable[[str], Tensor]) -> Finished:
    from mergecore_plugins.lora.extract_lora.report import finish

    return finish(plan, read)


def _accepts(document: Mapping[str, Json]) -> bool:
    return "extract_lora" in document


def _schema() -> type[ExtractionDocument]:
    from mergecore_plugins.lora.extract_lora.settings import ExtractionDocument

    return ExtractionDocument


def _compile(document: Document, planner: Planner) -> Plan:
    from mergecore_plugins.lora.extract_lora.compiling import plan_extraction

    return plan_extraction(planner)
