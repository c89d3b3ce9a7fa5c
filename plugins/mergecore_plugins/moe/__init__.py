"""Mixtures of experts made of dense models: the recipe `moe`, its command and its families.

The hooks are here and in `families`; `document.py` is what can be written, `compiling.py` makes the plan, `choosing.py`
decides which family can express a model, `dense.py` says what a dense model consists of, `gating` makes routers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

import click

from mergecore import Plan, Recipe, hookimpl
from mergecore.types import Finished, Json
from mergecore_plugins.moe.command import moe
from mergecore_plugins.moe.gating import conditions, gate_method

if TYPE_CHECKING:
    from torch import Tensor

    from mergecore import Document
    from mergecore.types import Planner
    from mergecore_plugins.moe.document import MoeDocument, PickDocument


@hookimpl
def mergecore_commands() -> Iterator[click.Command]:
    """Yield the group `moe`."""
    yield moe


@hookimpl
def mergecore_recipes() -> Iterator[Recipe]:
    """Yield the recipe for documents with `experts`, which are those of mergekit-moe, and that for `pick_experts`."""
    yield Recipe(
        name="moe",
        summary="a mixture of experts made of dense models",
        accepts=_accepts,
        compile=_compile,
        schema=_schema,
        methods=(gate_method(),),
        finish=_finish,
    )
    yield Recipe(
        name="pick_experts",
        accepts=_accepts_pick,
        compile=_compile_pick,
        schema=_schema_pick,
        summary="a mixture with fewer experts, or in another order",
    )


def _accepts(document: Mapping[str, Json]) -> bool:
    return ("experts" in document or "gate_mode" in document) and "merge_method" not in document


def _schema() -> type[MoeDocument]:
    from mergecore_plugins.moe.document import MoeDocument

    return MoeDocument


def _finish(plan: Plan, read: Callable[[str], Tensor]) -> Finished:
    """Say in the manifest how much alike the rows of each router are."""
    return Finished(facts=conditions(plan, read))


def _compile(document: Document, planner: Planner) -> Plan:
    from mergecore_plugins.moe.compiling import plan_moe

    return plan_moe(document, planner)


# ---- choices among experts ---------------------------------------------------------------------------------


def _accepts_pick(document: Mapping[str, Json]) -> bool:
    return "pick_experts" in document


def _schema_pick() -> type[PickDocument]:
    from mergecore_plugins.moe.document import PickDocument

    return PickDocument


def _compile_pick(document: Document, planner: Planner) -> Plan:
    from mergecore_plugins.moe.picking import plan_pick

    return plan_pick(document, planner)
