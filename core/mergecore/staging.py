"""The folder beside the target where a model is made, its lock, and the one step that puts it in place.

parent/OUT/                           appears complete, by one rename
parent/.OUT.mergecore-partial/        everything until then
    model/                            becomes OUT; its manifest, written last, says that it is complete
    .work/lock  plan.json  journal    who writes, what is made, which tensors are done
    .work/swap  old/                  only while an older OUT is being replaced
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from mergecore import disk
from mergecore.errors import MergecoreError, OutputError
from mergecore.manifest import NAME as MANIFEST
from mergecore.strict_json import read_json


@dataclass(frozen=True)
class Staging:
    """The places of one output."""

    target: Path

    @property
    def root(self) -> Path:
        """The staging folder, a sibling of the target and so on the same file system."""
        return self.target.parent / f".{self.target.name}.mergecore-partial"

    @property
    def model(self) -> Path:
        """What becomes the target."""
        return self.root / "model"

    @property
    def work(self) -> Path:
        """What only the merge itself needs."""
        return self.root / ".work"

    @property
    def plan(self) -> Path:
        """Says which plan is being carried out."""
        return self.work / "plan.json"

    @property
    def journal(self) -> Path:
        """Says which tensors are done."""
        return self.work / "journal"

    @property
    def lock(self) -> Path:
        """Locked while somebody writes."""
        return self.work / "lock"

    @property
    def swap(self) -> Path:
        """Says which folder is the new model while it changes places with the old one."""
        return self.work / "swap"

    @property
    def old(self) -> Path:
        """The old model, where two folders cannot change places in one step."""
        return self.root / "old"

    @property
    def partial(self) -> bool:
        """Whether an earlier run left work that can be taken up."""
        return self.plan.exists() and self.model.exists()

    @property
    def committed(self) -> bool:
        """Whether the staged model is complete."""
        return (self.model / MANIFEST).exists()


def lock(staging: Staging) -> int:
    """Become the only writer of the staging folder, made if need be; closing the returned file ends that.

    Raises:
        OutputError: E506 when another process writes there; E505 when the folder cannot be made.
    """
    with disk.telling(staging.target, "making the staging folder"):
        while True:
            if staging.root.is_symlink():
                raise OutputError(
                    "E501", "the staging folder is a symbolic link", place=str(staging.root), hint="remove it"
                )
            _make(staging)
            file = _open_locked(staging)
            if file is not None:
                return file


def repair(staging: Staging) -> bool:
    """Undo or finish an interrupted replacement of the target; True if there was one: then lock again."""
    if staging.swap.exists() and _is_swapped(staging):
        clear(staging)
        return True
    staging.swap.unlink(missing_ok=True)
    if staging.old.exists() and not staging.target.exists():
        staging.old.rename(staging.target)
        disk.sync_folder(staging.target.parent)
        return True
    return False


def publish(staging: Staging, *, overwrite: bool) -> None:
    """Put the complete staged model in place of the target, then remove the staging folder.

    A folder that is renamed over another replaces it only if that is empty, so nothing can be lost.

    Raises:
        OutputError: E501 when the target has come into being meanwhile.
    """
    try:
        staging.model.rename(staging.target)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            raise
        if not (overwrite and (staging.target / MANIFEST).is_file()):
            raise OutputError(
                "E501",
                "something was put there while the model was made; the model is complete and was kept",
                place=str(staging.target),
                hint="move that away, then run again with --resume",
            ) from error
        _replace(staging)
    disk.sync_folder(staging.target.parent)
    disk.sync_folder(staging.root)
    clear(staging)


def tidy(staging: Staging) -> None:
    """Remove what a run left behind that put its model in place and was interrupted after that."""
    if not staging.root.exists():
        return
    try:
        file = lock(staging)
    except OutputError as error:
        if error.code != "E506":
            raise
        return
    try:
        if not repair(staging) and not staging.partial:
            clear(staging)
    finally:
        os.close(file)


def discard(staging: Staging) -> None:
    """Remove what was staged.  The plan goes first: without it, the rest is not taken for a partial run."""
    for path in (staging.plan, staging.journal):
        path.unlink(missing_ok=True)
    disk.sync_folder(staging.work)
    disk.remove_tree(staging.model)
    disk.remove_tree(staging.old)


def clear(staging: Staging) -> None:
    """Remove the staging folder; the lock goes last, and what another process has put there since stays."""
    discard(staging)
    for path in sorted(staging.work.iterdir(), key=lambda path: path == staging.lock):
        path.unlink()
    for folder in (staging.work, staging.root):
        try:
            folder.rmdir()
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT):
                raise


def _make(staging: Staging) -> None:
    """Make the staging folder, with the folders above it durably."""
    missing = [folder for folder in staging.root.parents if not folder.exists()]
    staging.work.mkdir(parents=True, exist_ok=True)
    for folder in missing:
        disk.sync_folder(folder.parent)


def _replace(staging: Staging) -> None:
    """Exchange the staged model and the target; where the system cannot, there is a moment without target."""
    status = staging.model.stat()
    mark = json.dumps([status.st_dev, status.st_ino]).encode()
    disk.replace_file(staging.swap, mark)
    if not disk.exchange(staging.model, staging.target):
        staging.target.rename(staging.old)
        staging.model.rename(staging.target)


def _is_swapped(staging: Staging) -> bool:
    if not staging.target.exists():
        return False
    status = staging.target.stat()
    return read_json(staging.swap, code="E504") == [status.st_dev, status.st_ino]


def _open_locked(staging: Staging) -> int | None:
    """The lock, or None when the staging folder was removed between opening and locking it."""
    try:
        file = os.open(staging.lock, os.O_RDWR | os.O_CREAT, 0o666)
    except FileNotFoundError:
        return None
    try:
        if not _try_lock(file):
            raise _busy(staging)
        if staging.lock.exists() and os.path.samestat(os.fstat(file), staging.lock.stat()):
            _sign(file)
            return file
    except BaseException:
        os.close(file)
        raise
    os.close(file)
    return None


def _sign(file: int) -> None:
    """Say in the lock who holds it."""
    since = datetime.now(UTC).isoformat(timespec="seconds")
    owner = {"pid": os.getpid(), "host": socket.gethostname(), "since": since}
    os.ftruncate(file, 0)
    disk.write_at(file, memoryview(json.dumps(owner).encode()), 0)


def _try_lock(file: int) -> bool:
    """Whether the lock is ours.  Where there are no locks it is; the journal notices a second writer."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in (errno.EWOULDBLOCK, errno.EACCES)
    return True


def _busy(staging: Staging) -> OutputError:
    try:
        owner = read_json(staging.lock, code="E506")
    except MergecoreError:
        owner = {}
    who = "another process"
    if isinstance(owner, dict) and owner:
        who = f"process {owner.get('pid')} on {owner.get('host')}, since {owner.get('since')}"
    return OutputError(
        "E506",
        f"another merge is writing this output: {who}",
        place=str(staging.target),
        hint="wait for it or stop it, or choose another output folder",
    )
