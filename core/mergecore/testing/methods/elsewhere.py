"""What a method makes in other processes; read `digests_elsewhere`."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Sequence
from hashlib import sha256
from typing import BinaryIO, cast

import torch

from mergecore.files.strict_json import parse_json
from mergecore.testing.findings import NotCheckedError
from mergecore.testing.methods.cases import MethodCase

HASH_SEEDS = (1, 2)
"""In such processes the texts of a set stand in another order; in each of them in its own."""
SHAPES = ((13, 11), (7,), (3, 4, 5))
Digests = dict[str, str]


def digests_here(case: MethodCase) -> Digests:
    """Of what the method makes of a few tensors, by what they are."""
    made = {}
    for given in (one for shape in SHAPES for one in case.normal(shape)):
        merged = case.tried(given)
        numbers = b"" if merged is None else merged.double().numpy().tobytes()
        made[given.what] = sha256(numbers).hexdigest()
    return made


def digests_elsewhere(cases: Sequence[MethodCase]) -> list[list[Digests]]:
    """Of each case, in each of a few new processes, one list for a process.

    Raises:
        NotCheckedError: where other processes cannot find the functions of a method.
    """
    try:
        sent = pickle.dumps(cases)
    except Exception as error:
        raise NotCheckedError(
            "its functions are not at the top of a module, where another process would find them"
        ) from error
    told = json.dumps({"threads": torch.get_num_threads()}).encode() + b"\n" + sent
    started = [_started(seed) for seed in HASH_SEEDS]
    ended = [one.communicate(told) for one in started]
    return [_answer(one.returncode, *texts) for one, texts in zip(started, ended, strict=True)]


def _started(seed: int) -> subprocess.Popen[bytes]:
    """A process that answers for what it is given, as `main` does."""
    pipe = subprocess.PIPE
    begin = f"import sys; sys.path = {sys.path!r}; from {__name__} import main; main()"
    environment = {**os.environ, "PYTHONHASHSEED": str(seed)}
    return subprocess.Popen(
        [sys.executable, "-c", begin], stdin=pipe, stdout=pipe, stderr=pipe, env=environment
    )


def _answer(code: int, out: bytes, error: bytes) -> list[Digests]:
    if code:
        last = (error.decode("utf8", "replace").strip().splitlines() or ["it ended without a word"])[-1]
        raise NotCheckedError(f"another process cannot run it: {last}")
    return cast("list[Digests]", parse_json(out.splitlines()[-1], code="E401"))


def main(given: BinaryIO | None = None) -> None:
    """Write the digests of the cases that are handed over on standard input."""
    stream = given or sys.stdin.buffer
    torch.set_num_threads(cast("dict[str, int]", parse_json(stream.readline(), code="E401"))["threads"])
    cases: Sequence[MethodCase] = pickle.loads(stream.read())  # noqa: S301 - our own process sent it
    sys.stdout.write(f"\n{json.dumps([digests_here(one) for one in cases])}")
