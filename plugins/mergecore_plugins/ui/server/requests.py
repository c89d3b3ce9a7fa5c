"""What requests hold, checked; read `json_of`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse

from mergecore import MergecoreError
from mergecore.files import parse_json

MAX_BODY = 8_000_000
"""Bytes of a request at most; a config has a million."""


async def json_of(request: Request) -> Mapping[str, Any]:
    """The mapping that a request holds as JSON.

    Raises:
        HTTPException: 400 for anything else, 413 for more than anybody types.
    """
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > MAX_BODY:
            raise HTTPException(413)
    try:
        found = parse_json(bytes(body), code="E104")
    except MergecoreError as error:
        raise HTTPException(400) from error
    if not isinstance(found, Mapping):
        raise HTTPException(400)
    return found


def text_of(asked: Mapping[str, Any], key: str) -> str:
    """A text of a request; empty where there is none.

    Raises:
        HTTPException: 400 when it is not text, or not text that UTF-8 can hold.
    """
    found = asked.get(key, "")
    try:
        if isinstance(found, str):
            found.encode()
            return found
    except UnicodeEncodeError:
        pass
    raise HTTPException(400)


def refused(message: str, status: int = 422) -> JSONResponse:
    """An answer that says what is wrong, in words that the page shows."""
    return JSONResponse({"message": message}, status)
