"""The files that a plan was made from: what was checked is what is used, and a later run knows them again.

`pinned` ends a plan, `input_files` says what distinguishes the files of a plan from what they were and will be, and
`differences` compares two such states.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mergecore.errors import InputError
from mergecore.files.safe_open import NO_STAMP, open_regular, sha256_of, stamp_of, unreadable
from mergecore.types import Checkpoint, Json, Plan, SmallFile

MADE = "sha256:"
"""How the revision of an intermediate result begins, behind which stands a digest of all its numbers and files."""

State = dict[str, Json]
"""Size, inode and times of a file, and its digest where that is known."""


@dataclass(frozen=True)
class InputFile:
    """A file of a model and its state; `name` is for messages.  No state: it is not here yet."""

    name: str
    path: Path
    state: State
    weights: bool = False


# ---- one plan ----------------------------------------------------------------------------------------------


def pinned(plan: Plan) -> Plan:
    """`plan` with the digests of its side files.

    Raises:
        InputError: E235 when a side file of a model has changed since the model was opened.
    """
    if plan.side_digests.keys() == plan.side_files.keys():
        return plan
    known: dict[Path, SmallFile] = {}
    for model in _all(plan):
        for name, small in model.small.items():
            known[model.side_files[name]] = small
            _check_stamp(model.side_files[name], small.stamp, f"{model.name}/{name}")
    digests = {name: _digest(content, known) for name, content in plan.side_files.items()}
    return replace(plan, side_digests=digests)


def changed(place: str) -> InputError:
    """The error E235 for a side file."""
    what = "the file changed after the merge was planned"
    return InputError("E235", what, place=place, hint="run again once nothing writes to it")


def _check_stamp(path: Path, stamp: tuple[int, ...], place: str) -> None:
    try:
        now = stamp_of(os.lstat(path))
    except OSError:
        raise changed(place) from None
    if now != stamp:
        raise changed(place)


def _digest(content: Path | bytes, known: Mapping[Path, SmallFile]) -> str:
    if isinstance(content, bytes):
        return hashlib.sha256(content).hexdigest()
    if content in known:
        return known[content].sha256
    with open_regular(content, str(content)) as (read, status):
        return sha256_of(read, status.st_size)


# ---- two runs ----------------------------------------------------------------------------------------------


def input_files(plan: Plan) -> list[InputFile]:
    """The files of the models as they are on this machine now."""
    found = []
    for model in plan.models:
        for file in model.weight_files:
            known = _state(file.size, file.stamp, _blob_digest(file.path)) if any(file.stamp) else {}
            vouched = (model.revision or "").startswith(
                MADE
            )  # so it may be made again, with the same numbers
            name = f"{model.name}/{model.file_name(file)}"
            found.append(InputFile(name, file.path, known, weights=not vouched))
    for model in _all(plan):
        for name, small in model.small.items():
            state = _state(small.size, small.stamp, small.sha256)
            found.append(InputFile(f"{model.name}/{name}", model.side_files[name], state))
    return found


def _all(plan: Plan) -> Iterator[Checkpoint]:
    """The models, and those that they are made of."""
    for model in plan.models:
        yield from (model, *model.parts)


def fetched(files: Sequence[InputFile]) -> list[InputFile]:
    """Those that were not here when the plan was made and are now, with their states."""
    return [replace(file, state=_state_now(file)) for file in files if not file.state]


def check_unchanged(files: Sequence[InputFile]) -> None:
    """Raise E235 when a file is not what it was when the plan was made, or when it was fetched."""
    for file in files:
        if file.state and _facts(_state_now(file)) != _facts(file.state):
            raise changed(file.name)


def differences(before: Mapping[str, Json], now: Sequence[InputFile]) -> Iterator[str]:
    """How files are not provably what they were; `before` holds states by name.

    A file that was replaced is the same where its digest was known and still is.
    """
    for file in now:
        old = before.get(file.name)
        if not isinstance(old, dict) or not file.state or old == file.state:
            continue
        if not _has_digest(file, old.get("sha256")):
            yield f"{file.name} ({_how(old, file.state)})"


def written_since(moment: int, files: Sequence[InputFile]) -> list[str]:
    """The names of files that were written to, replaced or moved at `moment` (ns) or later."""
    return [
        file.name
        for file in files
        if file.state and max(_number(file.state, "mtime_ns"), _number(file.state, "ctime_ns")) >= moment
    ]


def _has_digest(file: InputFile, digest: Json) -> bool:
    """Whether the bytes of a file are known to have that digest; the name of a file of weights proves nothing."""
    return (
        bool(digest) and file.state.get("sha256") == digest and (not file.weights or _sha256(file) == digest)
    )


def _how(old: State, now: State) -> str:
    if old.get("size") != now["size"]:
        return f"{old.get('size')} bytes then, {now['size']} now"
    if old.get("inode") != now["inode"]:
        return "it was replaced by another file"
    if old.get("mtime_ns") != now["mtime_ns"]:
        return "it was written to"
    return "it was written to, or its name, mode or links were changed"


def _number(state: State, key: str) -> int:
    value = state.get(key)
    return value if isinstance(value, int) else 0


def _state(size: int, stamp: tuple[int, ...], sha256: str) -> State:
    """No device: its number may be another after the machine was started anew."""
    _, inode, modified, changed_at = (*stamp, *NO_STAMP[len(stamp) :])
    state: State = {"size": size, "inode": inode, "mtime_ns": modified, "ctime_ns": changed_at}
    return {**state, "sha256": sha256} if sha256 else state


def _state_now(file: InputFile) -> State:
    try:
        status = file.path.stat()
    except OSError as error:
        raise unreadable(error, file.name) from error
    return _state(status.st_size, stamp_of(status), _blob_digest(file.path))


def _facts(state: State) -> State:
    return {key: value for key, value in state.items() if key != "sha256"}


def _blob_digest(path: Path) -> str:
    """The SHA-256 that the cache of a hub gives a large file as its name; nothing for other files."""
    real = Path(os.path.realpath(path))
    return real.name if real.parent.name == "blobs" and _SHA256.fullmatch(real.name) else ""


_SHA256 = re.compile("[0-9a-f]{64}")


def _sha256(file: InputFile) -> str:
    with open_regular(Path(os.path.realpath(file.path)), file.name) as (read, status):
        return sha256_of(read, status.st_size)
