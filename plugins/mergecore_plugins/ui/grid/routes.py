"""What the grid asks the server for; read `routes`."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from mergecore import MergecoreError
from mergecore_plugins.ui.desk import Desk
from mergecore_plugins.ui.grid.drawing import Drawing, drawn
from mergecore_plugins.ui.server.requests import json_of, refused


def routes(desk: Desk) -> Sequence[BaseRoute]:
    """The text of the config with what was drawn."""

    async def draw(request: Request) -> Response:
        asked = await json_of(request)
        try:
            drawing = Drawing.model_validate(asked)
        except ValidationError as error:
            raise HTTPException(400) from error
        try:
            edit = await run_in_threadpool(drawn, drawing)
        except MergecoreError as error:
            return refused(str(error))
        return JSONResponse({"text": edit.after})

    return [Route("/grid/draw", draw, methods=["POST"])]
