"""What the page asks about runs, and what it asks of them; read `routes`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import BaseRoute, Route

from mergecore_plugins.ui.desk import Desk
from mergecore_plugins.ui.planning.planner import Superseded
from mergecore_plugins.ui.runs.history import reopened, report_of
from mergecore_plugins.ui.runs.progress import progress_of
from mergecore_plugins.ui.runs.queue import Runs
from mergecore_plugins.ui.runs.run import PLACE
from mergecore_plugins.ui.server.requests import json_of, refused, text_of


def routes(desk: Desk) -> Sequence[BaseRoute]:
    """The list of runs, what a button does to one, and the history."""
    return [
        Route("/runs", partial(_listed, desk)),
        Route("/runs", partial(_added, desk), methods=["POST"]),
        Route("/runs/{number:int}/config", partial(_config, desk)),
        Route("/runs/{number:int}/{what}", partial(_changed, desk), methods=["POST"]),
        Route("/history", partial(_history, desk)),
        Route("/history/open", partial(_reopened, desk)),
        Route("/history/report", partial(_report, desk), methods=["POST"]),
        Route("/report", partial(_shown_report, desk)),
    ]


async def _listed(desk: Desk, request: Request) -> Response:
    rows = await run_in_threadpool(lambda: [(one, progress_of(one)) for one in desk.runs.all])
    return desk.render("runs.html", rows=rows, live=any(one.live for one in desk.runs.all))


async def _added(desk: Desk, request: Request) -> Response:
    """Queue a merge of what is in the editor, unless the command line would refuse it."""
    asked = await json_of(request)
    text, out = text_of(asked, "text"), text_of(asked, "out").strip()
    if not out or out.startswith("-") or "\0" in out:
        return refused("say where to write the merged model, such as merged/mine")
    try:
        made = await desk.plan(text, offline=asked.get("online") is not True)
    except Superseded:
        return refused("the config was changed meanwhile; run it again")
    if not made.ok:
        return refused("the config cannot be merged yet; what is wrong stands below it")
    words = ["merge", PLACE, out, *options(asked)]
    run = desk.runs.add(words, config=text, title=out, out=out, extra=["--json"])
    return JSONResponse({"number": run.number})


async def _changed(desk: Desk, request: Request) -> Response:
    number, what = request.path_params["number"], request.path_params["what"]
    if what not in CHANGES:
        raise HTTPException(404)
    CHANGES[what](desk.runs, number)
    return await _listed(desk, request)


CHANGES: Mapping[str, Callable[[Runs, int], None]] = {
    "stop": Runs.stop,
    "resume": lambda runs, number: runs.again(number, "--resume"),
    "restart": lambda runs, number: runs.again(number, "--restart"),
    "overwrite": lambda runs, number: runs.again(number, "--overwrite"),
    "remove": Runs.remove,
}
"""What a button does to a run."""


async def _config(desk: Desk, request: Request) -> Response:
    run = desk.runs.get(request.path_params["number"])
    if run is None:
        raise HTTPException(404)
    return JSONResponse({"text": run.config, "out": run.out, "name": ""})


async def _history(desk: Desk, request: Request) -> Response:
    return desk.render("history.html", merges=await run_in_threadpool(desk.history.merges))


async def _reopened(desk: Desk, request: Request) -> Response:
    path = request.query_params.get("path", "")
    made = await run_in_threadpool(desk.history.get, path)
    if made is None:
        return refused(f"there is no merged model {path} below this folder")
    return JSONResponse(await run_in_threadpool(reopened, made, desk.runs.all))


async def _report(desk: Desk, request: Request) -> Response:
    """Queue the report about a merge."""
    path = text_of(await json_of(request), "path")
    made = await run_in_threadpool(desk.history.get, path)
    if made is None or not desk.can_report:
        return refused(f"there is no merged model {path} below this folder")
    run = desk.runs.add(["report", made.path, report_of(made.path)], title=f"report about {made.path}")
    return JSONResponse({"number": run.number})


async def _shown_report(desk: Desk, request: Request) -> Response:
    """A report: a page of its own, which reaches nothing of this one."""
    made = await run_in_threadpool(desk.history.get, request.query_params.get("path", ""))
    if made is None or not made.report:
        raise HTTPException(404)
    headers = {"content-security-policy": REPORT_POLICY}
    return FileResponse(desk.folder / made.report, media_type="text/html", headers=headers)


REPORT_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; sandbox allow-scripts allow-modals"
)
"""Reports hold styles and scripts of their own; without an origin, they cannot ask this server for anything."""


def options(asked: Mapping[str, Any]) -> list[str]:
    """The options of `mergecore merge` that the page offers, as they are to be typed."""
    words: list[str] = []
    for name in ("threads", "max-memory"):
        value = str(asked.get(name) or "").strip()
        words += [f"--{name}={value}"] if value else []
    words += ["--overwrite"] if asked.get("overwrite") is True else []
    return [*words, *([] if asked.get("online") is True else ["--offline"])]
