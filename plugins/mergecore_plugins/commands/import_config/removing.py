"""Takes keys that mean nothing out of a text, and leaves everything else in it, comments too, as it is.

Read `without_leftovers`.  What it makes is read again: where that is not the config without these keys, it gives up,
and the config is written anew.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from mergecore.config import OBSOLETE, OPTIONS
from mergecore.errors import MergecoreError
from mergecore.files import parse_documents

if TYPE_CHECKING:
    from mergecore import Document
    from mergecore.types import Json

Path = tuple[str | int, ...]


def without_leftovers(text: str, name: str, documents: Sequence[Document]) -> tuple[str | None, list[str]]:
    """The text without the keys that mean nothing, and what to say of them; None for a text that cannot be edited."""
    lines = text.splitlines(keepends=True)
    told: list[str] = []
    wanted = []
    for document in documents:
        data, removed = data_without_leftovers(document.data)
        wanted.append(data)
        told += [one for one in removed if one not in told]
        for path in sorted(_gone(document.data), key=lambda one: _line(document, one), reverse=True):
            _remove(lines, document, path)
    made = "".join(lines)
    return (made if _reads_as(made, name, wanted) else None), told


def data_without_leftovers(data: Mapping[str, Json]) -> tuple[dict[str, Json], list[str]]:
    """A document without the keys that mean nothing, and what to say of each."""
    told = []
    for path in _harmless(data, ()):
        key = str(path[-1])
        why = OBSOLETE.get(key) or OPTIONS[key]
        told.append(f"'{key}' is left out: {why.removesuffix('; remove it')}")
    gone = set(_gone(data))
    kept = _without(dict(data), gone, ())
    assert isinstance(kept, dict)
    return kept, list(dict.fromkeys(told))


def _harmless(value: Json | Mapping[str, Json], path: Path) -> Iterator[Path]:
    """The paths of all keys that mean nothing, wherever they stand."""
    if isinstance(value, Mapping):
        for key, one in value.items():
            if key in OBSOLETE or (not path and key in OPTIONS):
                yield (*path, key)
            else:
                yield from _harmless(one, (*path, key))
    elif isinstance(value, list):
        for i, one in enumerate(value):
            yield from _harmless(one, (*path, i))


def _gone(data: Mapping[str, Json]) -> list[Path]:
    """The same, but the mapping around them where nothing else is in it."""
    found = list(_harmless(data, ()))
    while True:
        parents = {path[:-1] for path in found if len(path) > 1 and isinstance(path[-2], str)}
        empty = {
            parent
            for parent in parents
            if isinstance(inside := _at(data, parent), dict)
            and {(*parent, key) for key in inside} <= set(found)
        }
        if not empty:
            return found
        found = [path for path in found if path[:-1] not in empty] + sorted(empty, key=str)


def _at(data: Mapping[str, Json], path: Path) -> object:
    value: object = data
    for step in path:
        value = value[step]  # type: ignore[index]
    return value


def _without(value: Json, gone: set[Path], path: Path) -> Json:
    if isinstance(value, dict):
        kept = {
            key: _without(one, gone, (*path, key)) for key, one in value.items() if (*path, key) not in gone
        }
        return kept if type(value) is dict else type(value)(kept)  # one with a tag keeps it
    if isinstance(value, list):
        return [_without(one, gone, (*path, i)) for i, one in enumerate(value)]
    return value


# ---- the text ----------------------------------------------------------------------------------------------


def _line(document: Document, path: Path) -> tuple[int, int]:
    place = document.key_place(path)
    return (place.line, place.column) if place else (0, 0)


def _remove(lines: list[str], document: Document, path: Path) -> None:
    """Take a key and its value out of the lines of a text."""
    number, column = _line(document, path)
    line, start = lines[number - 1], column - 1
    key = re.escape(str(path[-1]))
    if line[:start].strip():  # it is not the first word of its line: a flow, or the first key of a list item
        pattern = rf"(?P<before>,\s*)?([\"']?){key}\2\s*:\s*[^,{{}}\[\]#\n]+(?P<after>,\s*)?"
        match = re.compile(pattern).search(line, max(0, start - 1))
        match = re.compile(pattern).search(line, _comma_before(line, start)) or match
        if match:
            joint = match["before"] if match["before"] and match["after"] else ""
            lines[number - 1] = line[: match.start()] + joint + line[match.end() :]
            if lines[number - 1].strip() == "-" and number < len(lines):  # the next key begins the item
                lines[number - 1 : number + 1] = [f"{line[:start]}{lines[number].lstrip()}", ""]
        return
    end = number
    while end < len(lines) and _belongs(lines[end], start):
        end += 1
    while end > number and not lines[end - 1].strip():
        end -= 1
    lines[number - 1 : end] = [""] * (end - number + 1)


def _comma_before(line: str, start: int) -> int:
    """Where the comma before a place is, with blanks between; the place itself if there is none."""
    before = line[:start].rstrip()
    return len(before) - 1 if before.endswith(",") else start


def _belongs(line: str, indent: int) -> bool:
    """Whether a line goes on with the value of a key that stands at `indent`."""
    bare = line.strip()
    if not bare:
        return True
    here = len(line) - len(line.lstrip())
    return here > indent or (here == indent and bare.startswith("- "))


def _reads_as(text: str, name: str, wanted: Sequence[Mapping[str, Json]]) -> bool:
    try:
        return [dict(one.data) for one in parse_documents(text, name)] == [dict(one) for one in wanted]
    except MergecoreError:
        return False
