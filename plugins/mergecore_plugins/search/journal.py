"""What a search has tried, line by line on the disk, so that it goes on where it was killed; read `Journal`.

The first line says which search it is.  A line that was torn while it was written does not count.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Literal, cast

from mergecore import MergecoreError, OutputError
from mergecore.files import parse_json
from mergecore.types import Json, Score, Tried

NAME = "history.jsonl"
FORMAT = "mergecore-search/1"


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A model that was scored.

    kind: a point of the search, or one of the models that it is measured by.  values: one for each objective, of which
    more is better.  identity: that of the model.  seconds: how long it took, of which `merging` to make it.
    """

    number: int
    kind: Literal["point", "average", "parent", "base"]
    name: str
    state: Literal["complete", "pruned", "failed"]
    point: Mapping[str, float] = field(default_factory=dict)
    values: tuple[float, ...] = ()
    scores: tuple[Score, ...] = ()
    identity: str = ""
    error: str = ""
    seconds: float = 0.0
    merging: float = 0.0
    changed: int = 0
    """How many tensors were merged anew."""

    @property
    def complete(self) -> bool:
        """Whether it was scored on all data."""
        return self.state == "complete"

    def tried(self) -> Tried:
        """What a sampler is told."""
        return Tried(number=self.number, point=self.point, values=self.values, state=self.state)

    def as_json(self) -> dict[str, Json]:
        """As a line of the history."""
        return cast(
            "dict[str, Json]", {key: one for key, one in asdict(self).items() if one not in ("", {}, ())}
        )


def trial_of(line: Mapping[str, Any]) -> Trial:
    """The trial that a line says."""
    scores = tuple(
        Score(**{**one, "per_sample": tuple(one["per_sample"]), "weights": tuple(one["weights"])})
        for one in line.get("scores", ())
    )
    return Trial(**{**line, "scores": scores, "values": tuple(line.get("values", ()))})


class Journal:
    """The history of a search in its folder; `trials` are those of earlier runs, by kind and number."""

    def __init__(self, folder: Path, search: Mapping[str, Json]) -> None:
        """Begin a history, or take up that of the same search.

        Raises:
            OutputError: E507 where the folder holds that of another one, E506 where another process writes it.
        """
        self.path = folder / NAME
        self.trials: dict[tuple[str, int], Trial] = {}
        self._file = held(self.path)
        lines, end = _read(self.path)
        if lines:
            try:
                _check_same(lines[0], search, folder)
            except OutputError:
                self.close()
                raise
        if end < self.path.stat().st_size:
            self._file.truncate(end)
        if not lines:
            self._write({"format": FORMAT, "search": dict(search)})
        for line in lines[1:]:
            one = trial_of(line)
            self.trials[one.kind, one.number] = one

    def add(self, trial: Trial) -> None:
        """Keep a trial, durably."""
        self._write(trial.as_json())
        self.trials[trial.kind, trial.number] = trial

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _write(self, line: Mapping[str, Json]) -> None:
        self._file.write(json.dumps(line).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())


def held(path: Path) -> BinaryIO:
    """The open file of a history, which no other process has until it is closed; it is made where there is none.

    Raises:
        OutputError: E506 where another process has it.
    """
    file = path.open("a+b")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):  # else there are no locks
            file.close()
            hint = "wait for it, or stop it"
            what = "another process is searching in this folder"
            raise OutputError("E506", what, place=str(path.parent), hint=hint) from error
    return file


def is_history(path: Path) -> bool:
    """Whether a file is the history of a search, of any version; also one that was killed before its first line."""
    with path.open("rb") as file:
        begin = file.read(len(_BEGIN) + 1)
    return begin.startswith(_BEGIN) or _BEGIN.startswith(begin)


_BEGIN = b'{"format": "mergecore-search/'


def _read(path: Path) -> tuple[list[dict[str, Any]], int]:
    """The whole lines of a history, and where they end."""
    if not path.exists():
        return [], 0
    data = path.read_bytes()
    lines, end = [], 0
    while (stop := data.find(b"\n", end)) >= 0:
        try:
            line: Any = parse_json(data[end:stop], code="E507", nan=True, infinite=True)
        except MergecoreError:
            break
        lines.append(line)
        end = stop + 1
    return lines, end


def _check_same(first: Mapping[str, Any], search: Mapping[str, Json], folder: Path) -> None:
    """Raise E507 where the history is that of another search."""
    if first.get("format") != FORMAT:
        raise OutputError(
            "E507", "its history is of another version of mergecore", place=str(folder), hint=_OTHERWISE
        )
    before = first["search"]
    differs = [key for key in {**before, **search} if before.get(key) != search.get(key)]
    if differs:
        what = f"it holds another search: {', '.join(sorted(differs))} differ"
        raise OutputError("E507", what, place=str(folder), hint=_OTHERWISE)


_OTHERWISE = "--restart throws it away; or choose another folder"
