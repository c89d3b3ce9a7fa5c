"""Parts of the page that hang in beside the editor; read `Panel`, then `panels_list`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from starlette.routing import BaseRoute

    from mergecore import Plan, Registry
    from mergecore.types import Json
    from mergecore_plugins.ui.desk import Desk


def _no_routes(desk: Desk) -> Sequence[BaseRoute]:
    return ()


@dataclass(frozen=True)
class Panel:
    """A part of the page.

    name: what its section is called in the page; its routes begin with `/NAME/`, its files with `/static/NAME/`.
    title: its heading, and its word in the navigation.
    folder: holds `NAME.html`, which the page includes, and `static/`.
    place: beside the editor, or below over the whole width.
    routes: what it answers.
    scripts, styles: those of its files that the page loads.
    first: the id of its field that one fills in once there is a merge; empty where there is none.
    facts: what it wants to know of each plan that is made; it is called in the process that plans.
    """

    name: str
    title: str
    folder: Path
    place: Literal["middle", "below"]
    routes: Callable[[Desk], Sequence[BaseRoute]] = _no_routes
    scripts: Sequence[str] = ()
    styles: Sequence[str] = ()
    first: str = ""
    facts: Callable[[Plan, Registry], Json] | None = None
