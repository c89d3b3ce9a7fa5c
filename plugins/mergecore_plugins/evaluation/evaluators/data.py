"""Texts and rows of the user's data: read strictly, with everything that is wrong said at once, at its line."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

from mergecore import InputError, MergecoreError
from mergecore.errors import Collector, did_you_mean
from mergecore.files import parse_json, read_small
from mergecore.types import Json

MAX_BYTES = 1 << 30
FAULTS = 20
"""More wrong lines than this are counted, not named."""

R = TypeVar("R")
Split = Literal["paragraph", "line", "file"]


@dataclass(frozen=True)
class Row:
    """A JSON object of a file, and where it stands."""

    values: Mapping[str, Json]
    place: str

    def fault(self, what: str, hint: str | None = None) -> InputError:
        """The error for what is wrong with it."""
        return InputError("E270", what, place=self.place, hint=hint)

    def text(self, *keys: str) -> str:
        """The text under the first of these keys that it has.

        Raises:
            InputError: E270 when it has none of them, or something else there.
        """
        found = next((key for key in keys if key in self.values), None)
        if found is None:
            near = did_you_mean(keys[0], [*self.values])
            has = f"; it has {', '.join(sorted(self.values)) or 'nothing'}"
            raise self.fault(f"there is no '{keys[0]}'{near or has}", f"each line needs '{keys[0]}'")
        value = self.values[found]
        if not isinstance(value, str):
            raise self.fault(f"'{found}' is {_kind(value)}; text is expected")
        return value


def _kind(value: Any) -> str:
    names = {bool: "true or false", int: "a number", float: "a number", list: "a list", dict: "an object"}
    return "nothing" if value is None else names.get(type(value), "text")


def rows(paths: Sequence[Path], read: Callable[[Row], R], limit: int | None = None) -> list[R]:
    """What `read` makes of each line of JSONL files, in their order, the first `limit` ones.

    All lines are looked at, whatever the limit.

    Raises:
        InputError: E270 for every line that is wrong, as `Problems`.
    """
    found = _Faults()
    made: list[R] = []
    for path in paths:
        for row in _rows(path, found):
            try:
                made.append(read(row))
            except InputError as error:
                found.add(error)
    found.raise_any()
    if not made:
        raise _nothing(paths)
    return made[:limit]


def texts(paths: Sequence[Path], key: str, split: Split, limit: int | None = None) -> list[str]:
    """The texts of files: those of `.jsonl` under a key, others as paragraphs, lines or wholes; the first `limit`.

    Raises:
        InputError: E270, as for `rows`.
    """
    found = _Faults()
    made: list[str] = []
    for path in paths:
        if path.suffix != ".jsonl":
            made += [one for one in _parts(_content(path, found), split) if one.strip()]
            continue
        for row in _rows(path, found):
            try:
                text = row.text(key)
                if not text.strip():
                    raise row.fault(f"'{key}' is empty", "remove the line")
                made.append(text)
            except InputError as error:
                found.add(error)
    found.raise_any()
    if not made:
        raise _nothing(paths)
    return made[:limit]


def _nothing(paths: Sequence[Path]) -> InputError:
    named = ", ".join(str(path) for path in paths) or "no file is named"
    return InputError("E270", "there are no samples", place=named, hint="name files that have some")


def _parts(text: str, split: Split) -> list[str]:
    if split == "file":
        return [text]
    if split == "line":
        return text.split("\n")
    return [one.strip("\n") for one in re.split(r"\n[ \t]*(?:\n[ \t]*)+", text)]


def _rows(path: Path, found: _Faults) -> Iterator[Row]:
    for number, line in enumerate(_content(path, found).split("\n"), 1):
        if not line.strip():
            continue
        place = f"{path}:{number}"
        try:
            value = parse_json(line.encode(), code="E270", place=place)
        except MergecoreError as error:
            found.add(error)
            continue
        if isinstance(value, dict):
            yield Row(value, place)
        else:
            what = f"the line is {_kind(value)}; an object is expected"
            found.add(InputError("E270", what, place=place, hint="write {…} on every line"))


def _content(path: Path, found: _Faults) -> str:
    """The text of a file; nothing where it cannot be read, which is noted."""
    try:
        data = read_small(path, code="E270", max_bytes=MAX_BYTES)
        return data.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        what = "the file is not UTF-8"
        found.add(InputError("E270", what, place=f"{path}:{line}", hint="save it as UTF-8"))
    except MergecoreError as error:
        found.add(error)
    return ""


@dataclass
class _Faults:
    """What is wrong, as far as one can read it."""

    errors: list[MergecoreError] = field(default_factory=list)
    more: int = 0

    def add(self, error: MergecoreError) -> None:
        """Note a fault."""
        if len(self.errors) < FAULTS:
            self.errors.append(error)
        else:
            self.more += 1

    def raise_any(self) -> None:
        """Raise all of them at once."""
        problems = Collector()
        for error in self.errors:
            problems.add(error)
        if self.more:
            file = (self.errors[-1].place and str(self.errors[-1].place)) or ""
            problems.add(
                InputError("E270", f"{self.more} more lines are wrong", place=file.rpartition(":")[0])
            )
        problems.raise_any()
