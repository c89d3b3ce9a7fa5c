"""The page itself and what its editor asks for: checks, plans, a draft that survives; read `routes`."""

from __future__ import annotations

import math
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from mergecore import MergecoreError
from mergecore.files import parse_documents
from mergecore.types import Json
from mergecore_plugins.ui.configs.composing import choices
from mergecore_plugins.ui.configs.drafts import Draft, draft, keep_draft
from mergecore_plugins.ui.configs.finding import configs_below, models_below
from mergecore_plugins.ui.desk import NAME, Desk
from mergecore_plugins.ui.planning.planner import Superseded
from mergecore_plugins.ui.planning.shown import shown
from mergecore_plugins.ui.server.requests import json_of, text_of

Answer = Callable[[Request], Coroutine[Any, Any, Response]]


def routes(desk: Desk) -> Sequence[BaseRoute]:
    """What the page and its editor ask for."""

    async def index(request: Request) -> Response:
        found = await run_in_threadpool(lambda: (configs_below(desk.folder), draft(desk.folder)))
        return desk.render("page.html", configs=found[0], draft=found[1], choices=choices(desk))

    async def check(request: Request) -> Response:
        asked = await json_of(request)
        text, name = text_of(asked, "text"), text_of(asked, "name") or NAME
        found = await desk.check(text, name)
        data = await run_in_threadpool(lambda: _data(text))
        return JSONResponse({"faults": [one.as_json() for one in found], "data": data})

    async def plan(request: Request) -> Response:
        asked = await json_of(request)
        text, name = text_of(asked, "text"), text_of(asked, "name") or NAME
        try:
            made = await desk.plan(text, name, offline=asked.get("online") is not True)
        except Superseded:
            return Response(status_code=204)
        html = desk.templates.get_template("plan.html").render(desk=desk, **shown(made, desk.runs))
        return JSONResponse({**made.as_json(), "html": html})

    async def keep(request: Request) -> Response:
        asked = await json_of(request)
        kept = Draft(*(text_of(asked, key) for key in ("text", "name", "out", "opened")))
        await run_in_threadpool(keep_draft, desk.folder, kept)
        return Response(status_code=204)

    async def models(request: Request) -> Response:
        return JSONResponse(await run_in_threadpool(lambda: [vars(one) for one in models_below(desk.folder)]))

    return [
        Route("/", index),
        Route("/check", check, methods=["POST"]),
        Route("/plan", plan, methods=["POST"]),
        Route("/draft", keep, methods=["POST"]),
        Route("/models", models),
    ]


def _data(text: str) -> Json:
    """The documents in a text as plain values; None where it cannot be parsed."""
    try:
        return [_finite(dict(one.data)) for one in parse_documents(text)]
    except MergecoreError:
        return None


def _finite(value: Json) -> Json:
    """The same without numbers that JSON lacks."""
    match value:
        case float() if not math.isfinite(value):
            return None
        case list():
            return [_finite(one) for one in value]
        case dict():
            return {key: _finite(one) for key, one in value.items()}
    return value
