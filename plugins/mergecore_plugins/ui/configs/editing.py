"""Texts in and out of the editor: edits, new configs, files that are opened and saved; read `routes`."""

from __future__ import annotations

import codecs
import hashlib
from collections.abc import Sequence
from pathlib import Path

from pydantic import TypeAdapter, ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from mergecore import MergecoreError, MergeMethod
from mergecore.cli import method_as_json
from mergecore.files import read_text
from mergecore_plugins.ui.configs.composing import composed, fields
from mergecore_plugins.ui.configs.files import Elsewhere, inside, write
from mergecore_plugins.ui.configs.finding import models_below
from mergecore_plugins.ui.desk import Desk
from mergecore_plugins.ui.edits import Change, edited
from mergecore_plugins.ui.faults import faults_of
from mergecore_plugins.ui.server.requests import json_of, refused, text_of

_CHANGES = TypeAdapter(tuple[Change, ...])


def routes(desk: Desk) -> Sequence[BaseRoute]:
    """What changes the text of the editor, and where it comes from and goes to."""

    async def edit(request: Request) -> Response:
        asked = await json_of(request)
        text = text_of(asked, "text")
        try:
            changes = _CHANGES.validate_python(asked.get("edits"))
            return JSONResponse({"text": (await run_in_threadpool(edited, text, changes)).after})
        except ValidationError as error:
            raise HTTPException(400) from error
        except MergecoreError as error:
            fault = faults_of([error], "")[0]
            return JSONResponse({"fault": fault.as_json(), "message": f"{error}"}, 422)

    async def method(request: Request) -> Response:
        try:
            known = method_as_json(desk.registry.get(MergeMethod, request.path_params["name"]))
        except MergecoreError as error:
            raise HTTPException(404) from error
        models = await run_in_threadpool(models_below, desk.folder)
        return desk.render("method.html", method=known, fields=fields(known), models=models)

    async def new(request: Request) -> Response:
        asked = await json_of(request)
        values, models = asked.get("values"), asked.get("models")
        if not isinstance(values, dict) or not isinstance(models, list):
            raise HTTPException(400)
        given = {str(key): str(value) for key, value in values.items()}
        named = [str(one) for one in models if str(one).strip()]
        try:
            text = composed(text_of(asked, "method"), text_of(asked, "base").strip(), named, given, desk)
        except MergecoreError as error:
            return refused(str(error))
        return JSONResponse({"text": text})

    return [
        Route("/edit", edit, methods=["POST"]),
        Route("/methods/{name}", method),
        Route("/new", new, methods=["POST"]),
        *_files(desk),
    ]


def _files(desk: Desk) -> Sequence[BaseRoute]:
    async def opened(request: Request) -> Response:
        name = request.query_params.get("name", "")
        try:
            path = inside(desk.folder, name)
            text = await run_in_threadpool(read_text, path)
            known = await run_in_threadpool(digest, path)
        except Elsewhere as error:
            return refused(str(error))
        except (MergecoreError, OSError) as error:
            return refused(f"{name} cannot be opened: {error}")
        return JSONResponse({"text": text, "name": name, "opened": known})

    async def save(request: Request) -> Response:
        asked = await json_of(request)
        text, name = text_of(asked, "text"), text_of(asked, "name")
        return await run_in_threadpool(saved, desk.folder, name, text, text_of(asked, "opened"))

    return [Route("/file", opened), Route("/file", save, methods=["POST"])]


def saved(folder: Path, name: str, text: str, opened: str) -> Response:
    """Write a config below the folder, unless its file holds something that the page has not seen.

    opened: the digest of what the page knows to be in the file.
    """
    try:
        path = inside(folder, name)
        if path.exists() and not path.is_file():
            return refused(f"{name} is no file")
        before = path.read_bytes() if path.exists() else b""
        there = hashlib.sha256(before).hexdigest() if path.exists() else ""
        text = _as_it_was(before, text)
        if there and there not in (opened, hashlib.sha256(text.encode()).hexdigest()):
            message = f"{name} was written by something else: Save again replaces it, Open… shows it"
            return JSONResponse({"message": message, "opened": there}, 409)
        write(path, text)
    except Elsewhere as error:
        return refused(str(error))
    except OSError as error:
        return refused(f"{name} cannot be written: {error.strerror}")
    return JSONResponse({"name": name, "opened": hashlib.sha256(text.encode()).hexdigest()})


def _as_it_was(before: bytes, text: str) -> str:
    """The text with the line ends and the byte order mark of its file, which an editor in a browser has not."""
    ends = before.count(b"\r\n")
    if ends and ends == before.count(b"\n") and "\r" not in text:
        text = text.replace("\n", "\r\n")
    if before.startswith(codecs.BOM_UTF8) and not text.startswith(MARK):
        text = MARK + text
    return text


MARK = "\ufeff"


def digest(path: Path) -> str:
    """What tells one content of a file from another."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
