"""The server: its parts put together; read `make_app`."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from jinja2 import ChoiceLoader, Environment, FileSystemLoader, StrictUndefined
from starlette.applications import Starlette
from starlette.routing import BaseRoute, Mount
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from mergecore import Registry, __version__
from mergecore.files import size_text
from mergecore_plugins.ui import page
from mergecore_plugins.ui.configs import editing
from mergecore_plugins.ui.desk import Desk
from mergecore_plugins.ui.panels import Panel
from mergecore_plugins.ui.panels_list import PANELS
from mergecore_plugins.ui.planning.planner import Planner
from mergecore_plugins.ui.runs import routes as run_routes
from mergecore_plugins.ui.runs.history import History
from mergecore_plugins.ui.runs.queue import Runs
from mergecore_plugins.ui.server.security import Guard

HERE = Path(__file__).parents[1]


def make_app(
    folder: Path,
    token: str,
    port: int,
    *,
    disabled: Sequence[str] = (),
    panels: Sequence[Panel] = PANELS,
) -> ASGIApp:
    """The server of a folder, which is the working folder; it listens at `port`."""
    desk = Desk(
        folder=folder,
        registry=Registry.discover(disabled),
        planner=Planner(disabled),
        runs=Runs(folder, disabled),
        history=History(folder),
        templates=_templates(panels),
        disabled=disabled,
    )

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        desk.planner.start()
        desk.runs.start()
        yield
        await desk.runs.end()
        await desk.planner.end()

    routes: list[BaseRoute] = [
        *page.routes(desk),
        *editing.routes(desk),
        *run_routes.routes(desk),
        *(route for one in panels for route in one.routes(desk)),
        *(Mount(f"/static/{one.name}", StaticFiles(directory=one.folder / "static")) for one in panels),
        Mount("/static", StaticFiles(directory=HERE / "static")),
    ]
    return Guard(Starlette(routes=routes, lifespan=lifespan), token, port)


def _templates(panels: Sequence[Panel]) -> Environment:
    folders = [HERE / "templates", *(one.folder for one in panels)]
    found = Environment(
        loader=ChoiceLoader([FileSystemLoader(one) for one in folders]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {"size": size_text, "when": _when}
    found.globals |= {"panels": tuple(panels), "version": __version__}
    return found


def _when(seconds: float, form: str) -> str:
    return time.strftime(form, time.gmtime(seconds) if form.endswith("Z") else time.localtime(seconds))
