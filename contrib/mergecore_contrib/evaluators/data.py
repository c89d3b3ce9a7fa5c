"""Samples in files of the user, read strictly, with all wrong lines said at once; read `rows`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TypeVar

from mergecore import InputError
from mergecore.errors import Collector
from mergecore.files import parse_json, read_small
from mergecore.types import Json

MAX_BYTES = 1 << 30
MOST = 20
"""More wrong lines than these are not named."""

R = TypeVar("R")


def rows(
    lines: Iterable[tuple[str, Json | Sequence[str]]],
    read: Callable[[object], R | None],
    what: str,
    wanted: str,
) -> list[R]:
    """What `read` makes of the values of lines, each with its place; `read` returns None for a wrong one.

    Raises:
        InputError: E270 for each wrong line, and where there is none at all.
    """
    faults, found, place = Collector(), list[R](), ""
    for place, value in lines:
        made = read(value)
        if made is not None:
            found.append(made)
        elif len(faults.errors) < MOST:
            faults.add(InputError("E270", f"this is not {what}", place=place, hint=f"write {wanted}"))
    faults.raise_any()
    return found


def json_lines(path: Path) -> list[tuple[str, Json]]:
    """The value in each line of a file, and where it stands.

    Raises:
        InputError: E270 for a file that is not there or not UTF-8, and for each line that is not JSON.
    """
    faults, found = Collector(), list[tuple[str, Json]]()
    for number, line in enumerate(text_of(path).split("\n"), 1):
        if line.strip() and len(faults.errors) < MOST:
            place = f"{path}:{number}"
            with faults.collecting():
                found.append((place, parse_json(line.encode(), code="E270", place=place)))
    faults.raise_any()
    return found


def text_of(path: Path) -> str:
    """The text of a file.

    Raises:
        InputError: E270 for a file that is not there or not UTF-8.
    """
    data = read_small(path, code="E270", max_bytes=MAX_BYTES)
    try:
        return data.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        what = "the file is not UTF-8"
        raise InputError("E270", what, place=f"{path}:{line}", hint="save it as UTF-8") from error


def limited(found: Sequence[R], limit: int | None, path: Path) -> list[R]:
    """The first samples.

    Raises:
        InputError: E270 when there are none.
    """
    if not found:
        raise InputError("E270", "there are no samples", place=str(path), hint="name a file that has some")
    return list(found[:limit])
