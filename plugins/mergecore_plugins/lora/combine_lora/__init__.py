"""Adapters merged into an adapter: a merge config whose output writer is `peft`, and `mergecore combine-lora`.

The hooks are here.  Read `compiling.py` first: adapters are read without their base, merged as models of nothing but
changes, and each step of that merge becomes one that makes factors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

import click

from mergecore import Plan, Recipe, hookimpl
from mergecore.types import Finished, Json
from mergecore_plugins.lora.combine_lora.command import combine_lora
from mergecore_plugins.lora.combine_lora.methods import methods
from mergecore_plugins.lora.making.peft import WRITER

if TYPE_CHECKING:
    from torch import Tensor

    from mergecore import Document
    from mergecore.types import Planner


@hookimpl
def mergecore_commands() -> Iterator[click.Command]:
    """Yield the command `combine-lora`."""
    yield combine_lora


@hookimpl
def mergecore_recipes() -> Iterator[Recipe]:
    """Yield the recipe for merge configs that write an adapter."""
    yield Recipe(
        name="combine_lora",
        accepts=_accepts,
        compile=_compile,
        methods=methods(),
        finish=_finish,
        summary="one adapter out of several",
    )


def _accepts(document: Mapping[str, Json]) -> bool:
    """Whether a merge config has the writer `peft`, with or without `@DISTRIBUTION`."""
    output = document.get("output")
    writer = output.get("writer") if "merge_method" in document and isinstance(output, dict) else None
    return isinstance(writer, str) and writer.partition("@")[0] == WRITER


def _compile(document: Document, planner: Planner) -> Plan:
    from mergecore_plugins.lora.combine_lora.compiling import plan_combination

    return plan_combination(document, planner)


def _finish(plan: Plan, read: Callable[[str], Tensor]) -> Finished:
    from mergecore_plugins.lora.combine_lora.report import finish

    return finish(plan, read)
