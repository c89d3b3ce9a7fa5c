"""What a power cut may leave of a folder: `Recorder` notes what a merge does to it, and builds such states."""

from __future__ import annotations

import json
import os
import random
import shutil
from dataclasses import dataclass
from pathlib import Path

from mergecore.files import durable

CALLS = ("open", "mkdir", "rename", "unlink", "rmdir", "ftruncate", "pwrite", "fdatasync", "fsync")
"""Those of `os` that change the disk."""
STAGING = ".out.mergecore-partial"


@dataclass(frozen=True)
class Operation:
    """What a call did: to a name (make, remove, rename, swap), to a file (write, length), or a sync of either."""

    kind: str
    path: str = ""
    other: str = ""
    file: int | None = None
    offset: int = 0
    data: bytes = b""


class Recorder:
    """Records what a merge does to a folder, and builds what a power cut may leave of it.

    The rules are pessimistic.  The names in a folder are those at its last sync or any time since, whatever is
    known of other folders.  The bytes of a file are those at its last sync; of each later write all, a part or
    nothing has arrived.  `syncing=False` ignores every sync: a test of the test.
    """

    def __init__(self, folder: Path, *, syncing: bool) -> None:
        self.folder = folder
        self.operations: list[Operation] = []
        self._syncing = syncing
        self._names: dict[str, int | None] = {}  # the number of a file, None for a folder
        self._start: dict[int, bytes] = {}
        for path in sorted(folder.rglob("*")):
            self._names[str(path.relative_to(folder))] = None if path.is_dir() else len(self._start)
            if path.is_file():
                self._start[len(self._start)] = path.read_bytes()
        self._start_names = dict(self._names)
        self._files = len(self._start)
        self._descriptors: dict[int, int | None] = {}
        self._originals = {name: getattr(os, name) for name in CALLS}
        self._exchange = durable.exchange

    def __enter__(self) -> Recorder:
        for name in CALLS:
            setattr(os, name, getattr(self, f"_{name}"))
        durable.exchange = self._swap
        return self

    def __exit__(self, *_: object) -> None:
        for name, original in self._originals.items():
            setattr(os, name, original)
        durable.exchange = self._exchange

    def restore(self, at: int, chance: random.Random) -> None:
        """Make the folder what a power cut after `at` operations may leave."""
        past = self.operations[:at]
        names = dict(self._start_names)
        kept = _surviving(past, chance)
        for one in kept:
            _apply(names, one)
        shutil.rmtree(self.folder)
        self.folder.mkdir()
        for name in sorted(names):
            path, file = self.folder / name, names[name]
            if path.parent.exists():
                path.mkdir() if file is None else path.write_bytes(self._bytes(past, file, chance))
        self._renumber(swapped=any(one.other == "out" and one.path.endswith("/model") for one in kept))

    def journalled(self, at: int) -> int:
        """How many tensors the journal holds for certain."""
        past = self.operations[:at]
        journals = {one.file for one in past if one.kind == "make" and one.path.endswith("/journal")}
        mine = [one for one in past if one.file in journals]
        synced = max((index for index, one in enumerate(mine) if one.kind == "sync"), default=0)
        return sum(one.data.count(b'"t":') for one in mine[:synced])

    def _renumber(self, *, swapped: bool) -> None:
        """Folders made anew have other numbers than the one in the mark of a replacement."""
        root = self.folder / STAGING
        mark = root / ".work" / "swap"
        if mark.exists() and mark.read_bytes().endswith(b"]"):
            new = self.folder / "out" if swapped else root / "model"
            status = (new if new.exists() else root).stat()
            mark.write_text(json.dumps([status.st_dev, status.st_ino]))

    def _bytes(self, past: list[Operation], file: int, chance: random.Random) -> bytes:
        """What the disk has of a file: all up to its last sync, and some of the rest."""
        mine = [one for one in past if one.file == file]
        synced = max((index for index, one in enumerate(mine) if one.kind == "sync"), default=-1)
        data = bytearray(self._start.get(file, b""))
        for index, one in enumerate(mine):
            part = 1.0 if index < synced else chance.choice((0.0, 0.5, 1.0))
            if one.kind == "length" and part == 1.0:
                data = data[: one.offset].ljust(one.offset, b"\0")
            elif one.kind == "write":
                arrived = one.data[: int(len(one.data) * part)]
                if arrived:
                    data = data.ljust(one.offset, b"\0")
                    data[one.offset : one.offset + len(arrived)] = arrived
        return bytes(data)

    def _note(self, operation: Operation) -> None:
        self.operations.append(operation)
        _apply(self._names, operation)

    def _name(self, path: str | Path, folder: int | None = None) -> str:
        start = Path(f"/proc/self/fd/{folder}").readlink() if folder is not None else Path()
        full = start / path
        return os.path.relpath(full.readlink() if full.is_relative_to("/proc") else full, self.folder)

    def _open(self, path: str | Path, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        descriptor: int = self._originals["open"](path, flags, mode, dir_fd=dir_fd)
        name = self._name(path, dir_fd)
        if name not in self._names and flags & os.O_CREAT:
            self._note(Operation("make", name, file=self._files))
            self._files += 1
        file = self._descriptors[descriptor] = self._names.get(name)
        if flags & os.O_TRUNC:
            self._note(Operation("length", file=file))
        return descriptor

    def _mkdir(self, path: str | Path, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
        self._originals["mkdir"](path, mode, dir_fd=dir_fd)
        self._note(Operation("make", self._name(path, dir_fd)))

    def _rename(self, path: str, other: str, *, src_dir_fd: int, dst_dir_fd: int) -> None:
        self._originals["rename"](path, other, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)
        self._note(Operation("rename", self._name(path, src_dir_fd), self._name(other, dst_dir_fd)))

    def _swap(self, one: tuple[int, str], other: tuple[int, str]) -> bool:
        swapped = self._exchange(one, other)
        if swapped:
            (folder, name), (other_folder, other_name) = one, other
            self._note(Operation("swap", self._name(name, folder), self._name(other_name, other_folder)))
        return swapped

    def _unlink(self, path: str | Path, *, dir_fd: int | None = None) -> None:
        self._originals["unlink"](path, dir_fd=dir_fd)
        self._note(Operation("remove", self._name(path, dir_fd)))

    def _rmdir(self, path: str | Path, *, dir_fd: int | None = None) -> None:
        self._originals["rmdir"](path, dir_fd=dir_fd)
        self._note(Operation("remove", self._name(path, dir_fd)))

    def _ftruncate(self, descriptor: int, length: int) -> None:
        self._originals["ftruncate"](descriptor, length)
        self._note(Operation("length", file=self._descriptors[descriptor], offset=length))

    def _pwrite(self, descriptor: int, data: bytes, offset: int) -> int:
        count: int = self._originals["pwrite"](descriptor, data, offset)
        file = self._descriptors[descriptor]
        self._note(Operation("write", file=file, offset=offset, data=bytes(data[:count])))
        return count

    def _fdatasync(self, descriptor: int) -> None:
        self._originals["fdatasync"](descriptor)
        if self._syncing:
            self._note(Operation("sync", file=self._descriptors[descriptor]))

    def _fsync(self, descriptor: int) -> None:
        self._originals["fsync"](descriptor)
        if self._syncing:
            self._note(Operation("sync folder", self._name(f"/proc/self/fd/{descriptor}")))


def _surviving(past: list[Operation], chance: random.Random) -> list[Operation]:
    """The operations on names that a power cut leaves; one on two folders survives as a whole or not at all."""
    synced = {one.path: index for index, one in enumerate(past) if one.kind == "sync folder"}
    changes = [
        (index, one) for index, one in enumerate(past) if one.kind in ("make", "remove", "rename", "swap")
    ]
    folders = {folder for _, one in changes for folder in _folders(one)}
    until = {folder: chance.randint(synced.get(folder, 0), len(past)) for folder in sorted(folders)}
    return [
        one
        for index, one in changes
        if any(index < synced.get(folder, 0) for folder in _folders(one))
        or all(index < until[folder] for folder in _folders(one))
    ]


def _folders(one: Operation) -> set[str]:
    return {os.path.normpath(Path(path).parent) for path in (one.path, one.other) if path}


def _apply(names: dict[str, int | None], one: Operation) -> None:
    """What an operation does to the names in a folder."""
    if one.kind == "make":
        names[one.path] = one.file
    elif one.kind == "remove":
        names.pop(one.path, None)
    elif one.kind in ("rename", "swap"):
        moved = _taken(names, one.path)
        back = _taken(names, one.other)
        names |= {one.other + rest: file for rest, file in moved.items()}
        if one.kind == "swap":
            names |= {one.path + rest: file for rest, file in back.items()}


def _taken(names: dict[str, int | None], top: str) -> dict[str, int | None]:
    """What is at `top` and below, taken out of `names`, by what follows `top`."""
    found = [name for name in names if name == top or name.startswith(top + "/")]
    return {name[len(top) :]: names.pop(name) for name in found}
