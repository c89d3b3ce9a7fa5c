"""The layers of a merge as a table in the page: weights are drawn in it, and land in the YAML.

`facts` says what is in it, `shape` what goes to the page and comes back, `drawing` makes a text of what is drawn with
the help of `fitting`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mergecore import Plan, Registry
from mergecore.types import Json
from mergecore_plugins.ui.panels import Panel

if TYPE_CHECKING:
    from starlette.routing import BaseRoute

    from mergecore_plugins.ui.desk import Desk


def _routes(desk: Desk) -> Sequence[BaseRoute]:
    from mergecore_plugins.ui.grid.routes import routes

    return routes(desk)


def _facts(plan: Plan, registry: Registry) -> Json:
    from mergecore_plugins.ui.grid.facts import facts

    return facts(plan, registry)


PANEL = Panel(
    name="grid",
    title="Layers",
    folder=Path(__file__).parent,
    place="middle",
    routes=_routes,
    scripts=("grid.js",),
    styles=("grid.css",),
    facts=_facts,
)
"""The part of the page."""
