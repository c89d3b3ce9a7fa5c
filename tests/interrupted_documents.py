"""A merge of several documents that is killed at calls drawn at random, and taken up again until it is whole.

    python interrupted_documents.py FOLDER [--runs N] [--seed N]

Each run is killed by SIGKILL, once or twice, before some call that writes, syncs, renames or removes: in whichever
document that is, and between two of them.  Then it goes on by --resume, and every file must be that of a run that
nobody stopped.  Prints what was found, as JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from tiny import listing, write_llama

import mergecore
from mergecore import PlanOptions, RunOptions
from mergecore.types.execution import Mode

CALLS = ("pwrite", "write", "fsync", "fdatasync", "rename", "unlink", "rmdir", "mkdir", "posix_fallocate")
LINEAR: dict[str, Any] = {"merge_method": "linear", "parameters": {"weight": 1}}
DOCUMENTS: list[dict[str, Any]] = [
    {"name": "first", **LINEAR, "models": [{"model": "./a"}, {"model": "./b"}]},
    {"name": "second", **LINEAR, "models": [{"model": "first"}, {"model": "./c"}]},
    {
        "merge_method": "slerp",
        "base_model": "first",
        "models": [{"model": "second"}],
        "parameters": {"t": 0.3},
    },
]


def merge(out: str, mode: Mode = "resume", *, remove: bool = False) -> None:
    """Make the documents, each in a folder; with two workers."""
    options = RunOptions(threads=2, mode=mode, remove_intermediate=remove)
    mergecore.merge(DOCUMENTS, out, plan_options=PlanOptions(fuse="never"), run_options=options)


def killed(out: str, at: int, *, remove: bool) -> int:
    """Merge in a process of its own that is killed before call number `at`; how many calls there were if it ends."""
    counted, counter = os.pipe()
    child = os.fork()
    if child == 0:
        calls = 0

        def counting(call: Any) -> Any:
            def counted_call(*words: Any, **more: Any) -> Any:
                nonlocal calls
                calls += 1
                if calls == at:
                    os.kill(os.getpid(), signal.SIGKILL)
                return call(*words, **more)

            return counted_call

        for name in CALLS:
            setattr(os, name, counting(getattr(os, name)))
        merge(out, remove=remove)
        os.close(counted)
        with os.fdopen(counter, "w") as pipe:
            pipe.write(str(calls))
        os._exit(0)
    os.close(counter)
    with os.fdopen(counted) as pipe:
        told = pipe.read()
    _, status = os.waitpid(child, 0)
    assert (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL) or status == 0, status
    return int(told or 0)


def state(out: Path) -> str:
    """How far a merge came."""
    if out.exists():
        return "result there"
    parts = out.with_name(f"{out.name}.parts")
    done = [name for name in ("first", "second") if (parts / name).exists()]
    begun = [
        one for folder in (parts, out.parent) if folder.is_dir() for one in folder.glob(".*mergecore-partial")
    ]
    return f"{len(done)} made, {'one begun' if begun else 'none begun'}"


def main() -> None:
    """Kill, resume, compare."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    os.chdir(given.folder)
    for seed, name in enumerate("abc"):
        write_llama(Path(name), 2, seed=seed)
    merge("whole", "new")
    wanted, wanted_parts = listing(Path("whole")), listing(Path("whole.parts"))
    draw = random.Random(given.seed)
    found: Counter[str] = Counter()
    calls = {remove: killed(f"counted-{remove}", 0, remove=remove) for remove in (False, True)}
    for run in range(given.runs):
        out, remove = Path(f"out-{run}"), run % 4 == 3
        for _ in range(draw.choice((1, 1, 2))):
            killed(str(out), draw.randrange(1, calls[remove] + 1), remove=remove)
            found[state(out)] += 1
        merge(str(out), remove=remove)
        assert listing(out) == wanted, f"run {run} of seed {given.seed}"
        parts = out.with_name(f"{out.name}.parts")
        assert (not parts.exists()) if remove else listing(parts) == wanted_parts, f"run {run}"
        assert not [*Path().glob(".*mergecore-partial")]
        for one in (out, parts):
            shutil.rmtree(one, ignore_errors=True)
    sys.stdout.write(json.dumps({"calls": calls[True], **found}) + "\n")


if __name__ == "__main__":
    main()
