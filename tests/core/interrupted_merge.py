"""A small merge that is killed, fails or loses power at any file-system call; the tests of the output run it.

    python interrupted_merge.py kill|fail|cut|cut-unsynced|hold fresh|overwrite|two-step FOLDER

`kill` sends SIGKILL before each call in turn, `fail` makes each call report an error, `cut` makes what a power
cut after each call may leave.  After each, the target is looked at, and the merge is run again with --resume.
Prints what was found, as JSON.  `cut-unsynced` ignores every sync, which must do harm, or the test is
none.  `hold` only holds the lock until its input ends.
"""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
import signal
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from mergecore import disk, stage
from mergecore.digests import block_digest, tensor_digest
from mergecore.errors import MergecoreError
from mergecore.stage import Stage
from mergecore.types import Json, Layout, OutputTensor
from mergecore_plugins.writers.safetensors import SafetensorsParams, lay_out

CALLS = ("open", "mkdir", "rename", "unlink", "rmdir", "ftruncate", "pwrite", "fdatasync", "fsync")
TENSORS = [
    OutputTensor(f"layers.{index}.weight", "BF16" if index % 3 else "F32", (index % 4, 50))
    for index in range(10)
]
SIDE_FILES = {"config.json": b'{"model_type": "llama"}\n', "extra/notes.txt": b"carried\n"}


def layout() -> Layout:
    return lay_out(TENSORS, SafetensorsParams(shard_size=1000))


def identity(seed: int) -> dict[str, Json]:
    return {"document": {"seed": seed}}


def bytes_of(name: str, nbytes: int, seed: int) -> bytes:
    return random.Random(f"{seed} {name}").randbytes(nbytes)


def merge(target: Path, *, seed: int = 1, overwrite: bool = False) -> None:
    """Make the model of `seed` at `target`, each tensor in two pieces, in another order than in the files."""
    plan = layout()
    with Stage.open(target, plan, TENSORS, identity(seed), mode="resume", overwrite=overwrite) as output:
        if output.complete:
            return
        for name in sorted(plan.slots.keys() - output.done.keys(), reverse=True):
            data = bytes_of(name, plan.slots[name].nbytes, seed)
            half = len(data) // 2
            output.write(name, half, data[half:])
            output.write(name, 0, data[:half])
            output.finish(name, tensor_digest([block_digest(data)] if data else []))
        output.seal(SIDE_FILES, {"format": "mergecore-manifest/1"})


def contents(folder: Path) -> dict[str, bytes] | None:
    """Every file below `folder`, or None where there is no folder."""
    if not folder.exists():
        return None
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


class Scenario:
    """What is there before the merge, and what the target may hold at any time."""

    def __init__(self, name: str, folder: Path) -> None:
        self.folder = folder
        self.target = folder / "out"
        self.overwrite = name != "fresh"
        self.first = 75 if self.overwrite else 1  # what comes before is the same in all
        stage.COMMIT_BYTES = 1000
        for name_of_sync in ("fsync", "fdatasync"):  # what they do is simulated
            setattr(os, name_of_sync, lambda descriptor: None)
        if name == "two-step":
            disk.exchange = lambda one, other: False
        merge(folder / "new" / "out")
        merge(folder / "old" / "out", seed=2)
        self.new = contents(folder / "new" / "out")
        self.old = contents(folder / "old" / "out") if self.overwrite else None
        self.allowed = {"new": self.new, "before": self.old}
        if name == "two-step":
            self.allowed["absent"] = None

    def prepare(self) -> None:
        """The folder as it is before the merge."""
        for path in self.folder.iterdir():
            if path.name not in ("new", "old"):
                shutil.rmtree(path)
        if self.overwrite:
            shutil.copytree(self.folder / "old" / "out", self.target)

    def run(self) -> None:
        merge(self.target, overwrite=self.overwrite)

    def state(self) -> str:
        found = contents(self.target)
        return next((name for name, allowed in self.allowed.items() if found == allowed), "wrong")

    def finished(self) -> bool:
        """Whether the target is the new model and nothing is left beside it."""
        beside = {path.name for path in self.folder.iterdir()} - {"new", "old", "out"}
        return contents(self.target) == self.new and not beside


class Interruption:
    """Counts the calls that may change the disk, and does something before the one of number `at`."""

    def __init__(self, at: int, action: Callable[[str], None]) -> None:
        self.count = 0
        self.at = at
        self.action = action
        self._originals = {name: getattr(os, name) for name in CALLS}
        self._call = disk._call

    def __enter__(self) -> Interruption:
        for name, original in self._originals.items():
            setattr(os, name, self._counting(name, original))
        vars(disk)["_call"] = self._counting("call", self._call)
        return self

    def __exit__(self, *_: object) -> None:
        for name, original in self._originals.items():
            setattr(os, name, original)
        disk._call = self._call

    def _counting(self, name: str, original: Callable[..., object]) -> Callable[..., object]:
        def counted(*arguments: object, **options: object) -> object:
            self.count += 1
            if self.count == self.at:
                if name == "pwrite":  # part of the bytes arrive
                    file, data, offset = arguments
                    original(file, data[: len(data) // 2], offset)  # type: ignore[index, arg-type]
                self.action(name)
            return original(*arguments, **options)

        return counted


def in_child(work: Callable[[], None]) -> int:
    """How a process ends that does `work`."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return os.waitpid(child, 0)[1]


def kill_everywhere(scenario: Scenario) -> Counter[str]:
    found: Counter[str] = Counter()

    def killed(at: int) -> bool:
        with Interruption(at, lambda _: os.kill(os.getpid(), signal.SIGKILL)):
            return in_child(scenario.run) == signal.SIGKILL

    for at in count(scenario.first):
        scenario.prepare()
        ran_through = not killed(at)
        found[scenario.state()] += 1
        if at % 3 == 0:  # the second run is killed as well
            killed(at // 3)
            found[scenario.state()] += 1
        scenario.run()
        found["resumed" if scenario.finished() else "not resumed"] += 1
        if ran_through:
            break
    return found


def fail_everywhere(scenario: Scenario) -> Counter[str]:
    found: Counter[str] = Counter()

    def fail(_: str) -> None:
        code = errno.EIO if at % 2 else errno.ENOSPC
        raise OSError(code, os.strerror(code))

    for at in count(scenario.first):
        scenario.prepare()
        interruption = Interruption(at, fail)
        try:
            with interruption:
                scenario.run()
            found["no error"] += 1
        except MergecoreError as error:
            found[error.code] += 1
        found[scenario.state()] += 1
        scenario.run()
        found["resumed" if scenario.finished() else "not resumed"] += 1
        if interruption.count < at:
            break
    return found


# ---- a power cut --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Operation:
    """What a call did: to a name (make, remove, rename, swap), to a file (write, length, sync), or a barrier."""

    kind: str
    path: str = ""
    other: str = ""
    file: int | None = None
    offset: int = 0
    data: bytes = b""


class Recorder:
    """Records what a merge does to a folder, and builds what a power cut may leave of it.

    The rules are pessimistic.  Names survive up to some call since the last sync of a folder, in their order.
    Bytes and lengths survive from the last sync of their file; of each later write all, a part or nothing has
    arrived.  `syncing=False` ignores every sync: a test of the test.
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
        self._exchange = disk.exchange

    def __enter__(self) -> Recorder:
        for name in CALLS:
            setattr(os, name, getattr(self, f"_{name}"))
        disk.exchange = self._swap
        return self

    def __exit__(self, *_: object) -> None:
        for name, original in self._originals.items():
            setattr(os, name, original)
        disk.exchange = self._exchange

    def restore(self, at: int, chance: random.Random) -> None:
        """Make the folder what a power cut after `at` operations may leave."""
        past = self.operations[:at]
        barriers = [index + 1 for index, one in enumerate(past) if one.kind == "barrier"]
        names = dict(self._start_names)
        kept = past[: chance.randint(barriers[-1] if barriers else 0, at)]
        for one in kept:
            _apply(names, one)
        for path in self.folder.iterdir():
            if path.name not in ("new", "old"):
                shutil.rmtree(path)
        for name in sorted(names):
            path, file = self.folder / name, names[name]
            if name.split("/")[0] not in ("new", "old"):
                path.mkdir() if file is None else path.write_bytes(self._bytes(past, file, chance))
        self._renumber(swapped=any(one.other == "out" and one.path.endswith("/model") for one in kept))

    def _renumber(self, *, swapped: bool) -> None:
        """Folders made anew have other numbers than the one in the mark of a replacement."""
        root = self.folder / ".out.mergecore-partial"
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
        return os.path.relpath(start / path, self.folder)

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

    def _mkdir(self, path: Path, mode: int = 0o777) -> None:
        self._originals["mkdir"](path, mode)
        self._note(Operation("make", self._name(path)))

    def _rename(self, path: Path, other: Path) -> None:
        self._originals["rename"](path, other)
        self._note(Operation("rename", self._name(path), self._name(other)))

    def _swap(self, one: Path, other: Path) -> bool:
        swapped = self._exchange(one, other)
        if swapped:
            self._note(Operation("swap", self._name(one), self._name(other)))
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
            self._note(Operation("barrier"))


def _apply(names: dict[str, int | None], one: Operation) -> None:
    """What an operation does to the names in a folder."""
    if one.kind == "make":
        names[one.path] = one.file
    elif one.kind == "remove":
        names.pop(one.path)
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


def cut_everywhere(scenario: Scenario, syncing: bool, states: int = 2) -> Counter[str]:
    found: Counter[str] = Counter()
    scenario.prepare()
    with Recorder(scenario.folder, syncing=syncing) as recorder:
        scenario.run()
    chance = random.Random(0)
    for at in range(len(recorder.operations) + 1):
        for _ in range(states):
            scenario.prepare()
            recorder.restore(at, chance)
            found[scenario.state()] += 1
            try:
                scenario.run()
                found["resumed" if scenario.finished() else "not resumed"] += 1
            except MergecoreError:
                found["not resumed"] += 1
    return found


def main() -> None:
    how, name, folder = sys.argv[1:]
    if how == "hold":
        with Stage.open(Path(folder) / "out", layout(), TENSORS, identity(1)):
            print("holding", flush=True)  # noqa: T201 - a script
            sys.stdin.read()
        return
    scenario = Scenario(name, Path(folder))
    if how == "kill":
        found = kill_everywhere(scenario)
    elif how == "fail":
        found = fail_everywhere(scenario)
    else:
        found = cut_everywhere(scenario, syncing=how == "cut")
    print(json.dumps(found))  # noqa: T201 - a script


if __name__ == "__main__":
    main()
