"""A small merge that is killed, fails or loses power at any file-system call; the tests of the output run it.

    python interrupted_merge.py fresh|restart|overwrite|two-step|hold FOLDER

SIGKILL comes before each call in turn; then each call reports an error; then the folder is what a power cut after
each call may leave, and the same where syncs do nothing, which must do harm, or the test is none.  Each time the
target is looked at, and the merge is run again with --resume.  Prints what was found, as JSON.  `hold` only holds
the lock until its input ends.
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
from itertools import count
from pathlib import Path

from power_cut import CALLS, STAGING, Recorder

from mergecore.errors import MergecoreError, OutputError
from mergecore.files import durable
from mergecore.output.digests import block_digest, tensor_digest
from mergecore.output.storages import folder as store
from mergecore.output.storages.folder import Stage
from mergecore.types import Json, Layout, OutputTensor, StepResult, Written
from mergecore.types.execution import Mode
from mergecore_plugins.writers.safetensors import SafetensorsParams, lay_out

TENSORS = [
    *(
        OutputTensor(f"layers.{index}.weight", "F32" if index % 3 else "BF16", (index % 4, 50))
        for index in range(8)
    ),
    OutputTensor("large", "F32", (300,)),
    OutputTensor("empty, in a file of its own", "F32", (0,)),
]
SIDE_FILES = {"config.json": b'{"model_type": "llama"}\n', "extra/notes.txt": b"carried\n"}


def layout() -> Layout:
    return lay_out(TENSORS, SafetensorsParams(shard_size=1000))


def identity(seed: int) -> dict[str, Json]:
    return {"document": {"seed": seed}}


def bytes_of(name: str, nbytes: int, seed: int) -> bytes:
    return random.Random(f"{seed} {name}").randbytes(nbytes)


def merge(
    target: Path, *, seed: int = 1, overwrite: bool = False, stop: int = 99, mode: Mode = "resume"
) -> int | None:
    """Make the model of `seed` at `target`, each tensor in two pieces, in another order than in the files.

    Stops after `stop` tensors.  Returns how many were done before, None when all was.
    """
    plan = layout()
    with Stage.open(target, plan, TENSORS, identity(seed), mode=mode, overwrite=overwrite) as output:
        if output.complete:
            return None
        done = len(output.done)
        for name in sorted(plan.slots.keys() - output.done.keys(), reverse=True)[:stop]:
            data = bytes_of(name, plan.slots[name].nbytes, seed)
            half = len(data) // 2
            output.write(name, half, data[half:])
            output.write(name, 0, data[:half])
            digest = tensor_digest([block_digest(data)] if data else [])
            output.finish(StepResult(name, (Written(name, digest, len(data)),)))
        if len(output.done) == len(TENSORS):
            output.seal(SIDE_FILES, {"format": "mergecore-manifest/1"})
        return done


def contents(folder: Path) -> dict[str, bytes] | None:
    """Every file below `folder`, or None where there is no folder."""
    if not folder.exists():
        return None
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


class Scenario:
    """What is there before the merge, and what the target may hold at any time."""

    def __init__(self, name: str, folder: Path) -> None:
        self.folder = folder
        self.place = folder / "place"
        self.target = self.place / "out"
        self.overwrite = name in ("overwrite", "two-step")
        self.restart = name == "restart"
        self.first = 75 if self.overwrite else 1  # what comes before is the same as in "fresh"
        self.step = 2 if self.restart else 1
        store.COMMIT_BYTES = 1000
        for name_of_sync in ("fsync", "fdatasync"):  # what they do is simulated
            setattr(os, name_of_sync, lambda descriptor: None)
        if name == "two-step":
            durable.exchange = lambda one, other: False
        merge(folder / "new" / "out")
        merge(folder / "old" / "out", seed=2)
        merge(folder / "partial" / "out", seed=3, stop=6)
        merge(folder / "other" / "out", seed=3)
        self.new = contents(folder / "new" / "out")
        self.old = contents(folder / "old" / "out") if self.overwrite else None
        self.allowed = {"new": self.new, "before": self.old}
        if name == "two-step":
            self.allowed["absent"] = None

    def prepare(self) -> None:
        """The folder as it is before the merge."""
        if self.place.exists():
            shutil.rmtree(self.place)
        self.place.mkdir()
        if self.overwrite:
            shutil.copytree(self.folder / "old" / "out", self.target)
        if self.restart:
            shutil.copytree(self.folder / "partial" / STAGING, self.place / STAGING)

    def run(self) -> int | None:
        try:
            return merge(self.target, overwrite=self.overwrite)
        except OutputError as error:
            if not (self.restart and error.code == "E507"):
                raise
            return merge(self.target, mode="restart")

    def reconsider(self) -> bool:
        """Whether the partial run that was to be thrown away gives what it should, if it is taken up after all."""
        try:
            merge(self.target, seed=3)
        except OutputError as error:
            if error.code != "E507":
                raise
            merge(self.target, seed=3, mode="restart")
        return contents(self.target) == contents(self.folder / "other" / "out")

    def state(self) -> str:
        found = contents(self.target)
        return next((name for name, allowed in self.allowed.items() if found == allowed), "wrong")

    def finished(self) -> bool:
        """Whether the target is the new model and nothing is left beside it."""
        return contents(self.target) == self.new and [path.name for path in self.place.iterdir()] == ["out"]


class Interruption:
    """Counts the calls that may change the disk, and does something before the one of number `at`."""

    def __init__(self, at: int, action: Callable[[str], None]) -> None:
        self.count = 0
        self.at = at
        self.action = action
        self._originals = {name: getattr(os, name) for name in CALLS}
        self._call = durable._call

    def __enter__(self) -> Interruption:
        for name, original in self._originals.items():
            setattr(os, name, self._counting(name, original))
        vars(durable)["_call"] = self._counting("call", self._call)
        return self

    def __exit__(self, *_: object) -> None:
        for name, original in self._originals.items():
            setattr(os, name, original)
        durable._call = self._call

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


def in_child(work: Callable[[], object]) -> int:
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

    for at in count(scenario.first, scenario.step):
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
        code = errno.EIO if at % 4 < 2 else errno.ENOSPC
        raise OSError(code, os.strerror(code))

    for at in count(scenario.first, scenario.step):
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


def cut_everywhere(scenario: Scenario, syncing: bool, states: int = 2) -> Counter[str]:
    found: Counter[str] = Counter()
    scenario.prepare()
    with Recorder(scenario.place, syncing=syncing) as recorder:
        scenario.run()
    chance = random.Random(0)
    for at in range(len(recorder.operations) + 1):
        for _ in range(states):
            scenario.prepare()
            recorder.restore(at, chance)
            found[scenario.state()] += 1
            found["lost at the end"] += at == len(recorder.operations) and scenario.state() != "new"
            if scenario.restart and at % 2 and scenario.state() == "before":
                found["resumed" if scenario.reconsider() else "not resumed"] += 1
                continue
            try:
                done = scenario.run()
                found["progress lost"] += done is not None and done < recorder.journalled(at)
                found["resumed" if scenario.finished() else "not resumed"] += 1
            except MergecoreError:
                found["not resumed"] += 1
    return +found


def main() -> None:
    name, folder = sys.argv[1:]
    if name == "hold":
        with Stage.open(Path(folder) / "out", layout(), TENSORS, identity(1)):
            print("holding", flush=True)  # noqa: T201 - a script
            sys.stdin.read()
        return
    scenario = Scenario(name, Path(folder))
    findings = {
        "kill": kill_everywhere(scenario),
        "fail": fail_everywhere(scenario),
        "cut": cut_everywhere(scenario, syncing=True),
        "cut without sync": cut_everywhere(scenario, syncing=False),
    }
    print(json.dumps(findings))  # noqa: T201 - a script


if __name__ == "__main__":
    main()
