"""What the page asks to try a merge; read `asking` and `evaluating`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from pydantic import BaseModel, ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from mergecore_plugins.ui.desk import Desk
from mergecore_plugins.ui.runs.run import Run
from mergecore_plugins.ui.server.requests import json_of, refused
from mergecore_plugins.ui.trying.data import data_below, file_of
from mergecore_plugins.ui.trying.results import answers, scores
from mergecore_plugins.ui.trying.words import Examination, Question, chat, evaluate

A = TypeVar("A", bound=BaseModel)


def asking(desk: Desk) -> Sequence[BaseRoute]:
    """Questions to models, and their answers as far as they are there."""

    async def ask(request: Request) -> Response:
        asked = _read(Question, await json_of(request))
        if not asked.who:
            return refused("choose who is to answer")
        if asked.merge and (why := await _not_ready(desk, asked.text)):
            return refused(why)
        count = len(asked.prompts)
        title = f"ask {count} prompt{'s' if count > 1 else ''}"
        return _queued(desk, chat(asked), asked.text if asked.merge else "", title)

    async def answered(request: Request) -> Response:
        run = _run(desk, request, "chat")
        found = await run_in_threadpool(answers, run)
        return desk.render("ask_answers.html", run=run, prompts=found)

    return [Route("/ask", ask, methods=["POST"]), Route("/ask/{number:int}", answered)]


def evaluating(desk: Desk) -> Sequence[BaseRoute]:
    """Evaluations of models, what they can be evaluated with, and the scores."""

    async def data(request: Request) -> Response:
        found = await run_in_threadpool(data_below, desk.folder)
        return JSONResponse([vars(one) for one in found])

    async def examine(request: Request) -> Response:
        asked = _read(Examination, await json_of(request))
        if not asked.who:
            return refused("choose who is to be evaluated")
        found = await run_in_threadpool(data_below, desk.folder)
        chosen = next((one for one in found if one.path == asked.data), None)
        if chosen is None:
            return refused("choose what to evaluate with; it must lie below this folder")
        if asked.merge and (why := await _not_ready(desk, asked.text)):
            return refused(why)
        file = await run_in_threadpool(file_of, desk.folder, chosen)
        words = evaluate(asked, file)
        return _queued(desk, words, asked.text if asked.merge else "", f"evaluate with {chosen.path}")

    async def scored(request: Request) -> Response:
        run = _run(desk, request, "evaluate")
        tables, warnings = await run_in_threadpool(scores, run)
        return desk.render("evaluate_scores.html", run=run, tables=tables, warnings=warnings)

    return [
        Route("/evaluate/data", data),
        Route("/evaluate", examine, methods=["POST"]),
        Route("/evaluate/{number:int}", scored),
    ]


def _read(kind: type[A], asked: object) -> A:
    try:
        return kind.model_validate(asked)
    except ValidationError as error:
        raise HTTPException(400) from error


async def _not_ready(desk: Desk, text: str) -> str:
    """Why the text in the editor cannot be merged, as far as it shows at once; the command says the rest."""
    found = await desk.check(text)
    return "the config cannot be merged yet; what is wrong stands below it" if found else ""


def _queued(desk: Desk, words: Sequence[str], config: str, title: str) -> Response:
    run = desk.runs.add(words, config=config, title=title, extra=["--json"])
    return JSONResponse({"number": run.number})


def _run(desk: Desk, request: Request, command: str) -> Run:
    run = desk.runs.get(request.path_params["number"])
    if run is None or run.words[0] != command:
        raise HTTPException(404)
    return run
