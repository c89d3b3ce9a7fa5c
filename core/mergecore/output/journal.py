"""The journal of a run: which tensors are on disk, so that an interrupted run goes on where it stopped.

A line is a checksum and one JSON record.  A line that a power cut tore no longer fits its checksum: it and
what follows do not count, and are written over.
"""

from __future__ import annotations

import json
import os
import uuid
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mergecore.errors import MergecoreError, OutputError
from mergecore.files import durable
from mergecore.files.folders import Folder
from mergecore.files.strict_json import parse_json
from mergecore.types import Json

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True)
class Record:
    """A finished tensor: the digest of its bytes, how many of its numbers are not finite."""

    name: str
    digest: str
    nonfinite: int = 0


class Journal:
    """An open journal.  `records` holds what is finished and durable, `inputs` states of files read, by name."""

    def __init__(self, folder: Folder, name: str = "journal") -> None:
        self.path = folder.path / name
        self.run = uuid.uuid4().hex
        self._file = folder.open(name, os.O_RDWR | os.O_CREAT)
        lines, self._end = _valid_lines(_read_all(self._file))
        self._written = max(self._end, os.fstat(self._file).st_size)
        self._boots: dict[str, str] = {}
        self._run_of: dict[str, str] = {}
        self.records: dict[str, Record] = {}
        self.inputs: dict[str, Json] = {}
        for line in lines:
            self._take(line)
        self._opening = _line({"run": self.run, "boot": _boot_id()})

    @property
    def unsure(self) -> set[str]:
        """Tensors finished before the machine was last started: a disk may have lost their bytes."""
        boot = _boot_id()
        return {name for name, run in self._run_of.items() if not boot or self._boots.get(run) != boot}

    def append(self, records: Sequence[Record]) -> None:
        """Add `records`, durably.  The bytes that they stand for must be durable before.

        Raises:
            OutputError: E506 when another process has written to the journal.
            OSError: when the disk failed; the records may or may not be there.
        """
        lines: list[dict[str, Json]] = [
            {"t": record.name, "b3": record.digest, "nonfinite": record.nonfinite, "run": self.run}
            for record in records
        ]
        self._append(lines)

    def note(self, inputs: Mapping[str, Json]) -> None:
        """Add states of files that are read, durably; raises as `append` does."""
        self._append([{"inputs": dict(inputs)}])

    def forget(self, names: Iterable[str]) -> None:
        """Take back what earlier runs said about these tensors, durably; raises as `append` does."""
        self._append([{"t": name, "b3": None, "run": self.run} for name in names])

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    def _append(self, lines: Sequence[dict[str, Json]]) -> None:
        if os.fstat(self._file).st_size > self._written:
            hint = "stop it, then run again with --resume"
            raise OutputError(
                "E506", "another process writes the same output", place=str(self.path), hint=hint
            )
        data = self._opening + b"".join(_line(line) for line in lines)
        self._written = max(self._written, self._end + len(data))
        durable.write_at(self._file, memoryview(data), self._end)
        durable.sync(self._file)
        self._end += len(data)
        self._opening = b""
        for line in lines:
            self._take(line)

    def _take(self, line: dict[str, Json]) -> None:
        match line:
            case {"t": str(name), "b3": str(digest), "nonfinite": int(nonfinite), "run": str(run)}:
                self.records[name] = Record(name, digest, nonfinite)
                self._run_of[name] = run
            case {"inputs": dict(inputs)}:
                self.inputs |= inputs
            case {"t": str(name), "b3": None}:
                self.records.pop(name, None)
                self._run_of.pop(name, None)
            case {"run": str(run), "boot": str(boot)}:
                self._boots[run] = boot


def _boot_id() -> str:
    """What the system calls the time since it was started, or nothing where it has no name for it."""
    return _BOOT_ID.read_text().strip() if _BOOT_ID.exists() else ""


def _line(value: dict[str, Json]) -> bytes:
    text = json.dumps(value, separators=(",", ":")).encode()
    return b"%08x %s\n" % (zlib.crc32(text), text)


def _read_all(file: int) -> bytes:
    size = os.fstat(file).st_size
    return os.pread(file, size, 0) if size else b""


def _valid_lines(data: bytes) -> tuple[list[dict[str, Json]], int]:
    """The lines up to the first that is torn, and where they end."""
    lines, end = [], 0
    for line, stop in _split(data):
        value = _value(line)
        if value is None:
            break
        lines.append(value)
        end = stop
    return lines, end


def _split(data: bytes) -> Iterator[tuple[bytes, int]]:
    start = 0
    while (stop := data.find(b"\n", start)) >= 0:
        yield data[start:stop], stop + 1
        start = stop + 1


def _value(line: bytes) -> dict[str, Json] | None:
    checksum, _, text = line.partition(b" ")
    if checksum != b"%08x" % zlib.crc32(text):
        return None
    try:
        value = parse_json(text, code="E504")
    except MergecoreError:
        return None
    return value if isinstance(value, dict) else None
