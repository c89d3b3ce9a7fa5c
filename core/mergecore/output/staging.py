"""The folder beside the target where a model is made, its lock, and the one step that puts it in place.

parent/OUT/                           appears complete, by one rename
parent/.OUT.mergecore-partial/        everything until then; nobody but its owner may enter
    model/                            becomes OUT; its manifest, written last, says that it is complete
    .work/lock  plan.json  journal    who writes, what is made, which tensors are done
    .work/swap  old/                  only while an older OUT is being replaced
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import socket
import stat
import uuid
from datetime import UTC, datetime
from pathlib import Path

from mergecore.errors import MergecoreError, OutputError
from mergecore.files import durable
from mergecore.files.folders import STAGING, Folder, planted
from mergecore.files.strict_json import parse_json
from mergecore.output import replacing

MODEL, WORK, OLD = "model", ".work", "old"
LOCK, PLAN, JOURNAL, SWAP = "lock", "plan.json", "journal", "swap"
_FILES = (LOCK, PLAN, JOURNAL, SWAP, f"{PLAN}.tmp", f"{SWAP}.tmp")
_TRIES = 1000
"""So often a staging folder is made anew that others remove; some file systems, such as /proc, never keep one."""
_OTHERS_MAY_WRITE = stat.S_IWGRP | stat.S_IWOTH


class Staging:
    """The places of one output.  The folders are open from `enter`, which `lock` calls, to `close`."""

    def __init__(self, target: Path) -> None:
        self.target = target
        self._open: dict[str, Folder] = {}

    @property
    def name(self) -> str:
        """Of the staging folder, a sibling of the target and so on the same file system.

        Where the disk takes no name that long, a digest stands for the end of it.
        """
        name = f".{self.target.name}{STAGING}"
        limit = _longest_name(self.target)
        if len(os.fsencode(name)) <= limit:
            return name
        whole = os.fsencode(self.target.name)
        end = f"-{hashlib.sha256(whole).hexdigest()[:16]}{STAGING}"
        return f".{whole[: limit - 1 - len(end)].decode(errors='ignore')}{end}"

    @property
    def path(self) -> Path:
        """Where the staging folder is."""
        return self.target.with_name(self.name)

    @property
    def parent(self) -> Folder:
        """The folder that holds target and staging folder."""
        return self._open["parent"]

    @property
    def root(self) -> Folder:
        """The staging folder."""
        return self._open["root"]

    @property
    def work(self) -> Folder:
        """What only the merge itself needs."""
        return self._open[WORK]

    @property
    def model(self) -> Folder:
        """What becomes the target; made when it is first asked for."""
        if MODEL not in self._open:
            self.root.make(MODEL)
            self._open[MODEL] = self.root.folder(MODEL)
        return self._open[MODEL]

    @property
    def partial(self) -> bool:
        """Whether an earlier run left work that can be resumed."""
        return (self.path / WORK / PLAN).exists() and (self.path / MODEL).exists()

    def enter(self) -> None:
        """Make the staging folder if need be, the folders above it durably, and open it.

        Raises:
            OutputError: E509 when it is not ours, or others may write in it.
        """
        missing = [folder for folder in self.path.parents if not folder.exists()]
        self.target.parent.mkdir(parents=True, exist_ok=True)
        for folder in missing:
            durable.sync_folder(folder.parent)
        parent = self._open["parent"] = Folder.at(self.target.parent)
        parent.make(self.name, 0o700)
        found = parent.folder(self.name)
        self._open["root"] = Folder(found.descriptor, found.path, os.fstat(found.descriptor).st_uid)
        _check_ours(self)
        self.root.make(WORK, 0o700)
        self._open[WORK] = self.root.folder(WORK)
        self.work.check_names(_FILES)

    def forget_model(self) -> None:
        """Close the folder of the model, which is removed or another one from now on."""
        if folder := self._open.pop(MODEL, None):
            folder.close()

    def close(self) -> None:
        """Close the folders."""
        for folder in self._open.values():
            folder.close()
        self._open.clear()


def lock(staging: Staging) -> int:
    """Become the only writer of the staging folder, made if need be; closing the returned file ends that.

    Raises:
        OutputError: E506 when another process writes there; E505 when the folder cannot be made; E509 when it
            is not ours.
    """
    with durable.telling(staging.target, "making the staging folder"):
        left = _TRIES
        while True:
            try:
                staging.enter()
                return _open_locked(staging)
            except FileNotFoundError:  # another process has just removed it, or nothing can be made here
                staging.close()
                left -= 1
                if not left:
                    what = f"no folder can be made in {staging.target.parent}"
                    hint = "choose another output folder"
                    raise OutputError("E505", what, place=str(staging.target), hint=hint) from None
            except BaseException:
                staging.close()
                raise


def repair(staging: Staging) -> bool:
    """Undo or finish an interrupted replacement of the target; True if there was one: then lock again."""
    if (mark := staging.work.read(SWAP)) is not None and _is_swapped(staging, mark):
        replacing.carry_over(staging.root, MODEL if staging.root.has_folder(MODEL) else OLD, _target(staging))
        clear(staging)
        return True
    staging.work.remove(SWAP)
    if staging.root.has_folder(OLD) and staging.parent.status(staging.target.name) is None:
        staging.root.rename(OLD, staging.parent, staging.target.name)
        staging.parent.sync()
        return True
    return False


def publish(staging: Staging, *, overwrite: bool) -> tuple[str, ...]:
    """Put the complete staged model in place of the target, then remove the staging folder.

    A folder that is renamed over another replaces it only if that is empty, so nothing can be lost.  Returns
    the names of files that were in the target and are not of a merge; they were kept.

    Raises:
        OutputError: E501 when the target has come into being meanwhile.
    """
    kept: tuple[str, ...] = ()
    try:
        staging.root.rename(MODEL, staging.parent, staging.target.name)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            raise
        if not (overwrite and replacing.is_merge(staging.target)):
            raise OutputError(
                "E501",
                "something was put there while the model was made; the model is complete and was kept",
                place=str(staging.target),
                hint="move that away, then run again with --resume",
            ) from error
        kept = _replace(staging)
    staging.parent.sync()
    staging.root.sync()
    clear(staging)
    return kept


def tidy(staging: Staging) -> None:
    """Remove what a run left behind that put its model in place and was interrupted after that."""
    if not os.path.lexists(staging.path):
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
        staging.close()


def discard(staging: Staging) -> None:
    """Remove what was staged.  The plan goes first: without it, the rest is not taken for a partial run."""
    for name in (PLAN, JOURNAL):
        staging.work.remove(name)
    staging.work.sync()
    staging.forget_model()
    staging.root.remove_tree(MODEL)
    staging.root.remove_tree(OLD)


def clear(staging: Staging) -> None:
    """Remove the staging folder; the lock goes last, and what another process has put there since stays."""
    discard(staging)
    for name in sorted(staging.work.names(), key=lambda name: name == LOCK):
        staging.work.remove(name)
    staging.root.remove_folder(WORK)
    staging.parent.remove_folder(staging.name)


def _longest_name(target: Path) -> int:
    """How many bytes a name may have beside `target`."""
    folder = next(folder for folder in target.parents if folder.exists())
    try:
        return os.pathconf(folder, "PC_NAME_MAX")
    except OSError:
        return 255


def _check_ours(staging: Staging) -> None:
    """Refuse a staging folder that is not ours, that others may write in, or that holds other things."""
    status = os.fstat(staging.root.descriptor)
    if not _is_private(status, os.geteuid(), 0):  # some file systems know no owners: look at a new folder
        fresh = _fresh(staging.parent)
        if status.st_uid != fresh.st_uid:
            raise planted(staging.path, f"a folder of user {status.st_uid}")
        if not _is_private(status, fresh.st_uid, fresh.st_mode):
            raise planted(staging.path, "a folder that other users may write in")
    staging.root.check_names((), (MODEL, WORK, OLD))


def _is_private(status: os.stat_result, owner: int, allowed: int) -> bool:
    return status.st_uid == owner and not status.st_mode & _OTHERS_MAY_WRITE & ~allowed


def _fresh(parent: Folder) -> os.stat_result:
    """What the system says about a folder that was just made for us alone."""
    name = f".mergecore-{uuid.uuid4().hex[:12]}"
    os.mkdir(name, 0o700, dir_fd=parent.descriptor)
    try:
        return os.stat(name, dir_fd=parent.descriptor, follow_symlinks=False)
    finally:
        parent.remove_folder(name)


def _target(staging: Staging) -> Folder:
    return staging.parent.folder(staging.target.name)


def _replace(staging: Staging) -> tuple[str, ...]:
    """Exchange the staged model and the target; where the system cannot, there is a moment without target."""
    status = os.fstat(staging.model.descriptor)
    staging.work.replace(SWAP, json.dumps([status.st_dev, status.st_ino]).encode())
    old, name = MODEL, staging.target.name
    if not staging.root.exchange(MODEL, staging.parent, name):
        staging.parent.rename(name, staging.root, OLD)
        staging.root.rename(MODEL, staging.parent, name)
        old = OLD
    return replacing.carry_over(staging.root, old, _target(staging))


def _is_swapped(staging: Staging, mark: bytes) -> bool:
    status = staging.parent.status(staging.target.name)
    return status is not None and parse_json(mark, code="E504", place=str(staging.path / WORK / SWAP)) == [
        status.st_dev,
        status.st_ino,
    ]


def _open_locked(staging: Staging) -> int:
    """The lock.

    Raises:
        FileNotFoundError: the staging folder was removed between opening and locking it.
    """
    file = staging.work.open(LOCK, os.O_RDWR | os.O_CREAT)
    try:
        if not _try_lock(file):
            raise _busy(staging, file)
        status = staging.work.status(LOCK)
        if status is not None and os.path.samestat(os.fstat(file), status):
            _sign(file)
            return file
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(staging.path))
    except BaseException:
        os.close(file)
        raise


def _sign(file: int) -> None:
    """Say in the lock who holds it."""
    since = datetime.now(UTC).isoformat(timespec="seconds")
    owner = {"pid": os.getpid(), "host": socket.gethostname(), "since": since}
    os.ftruncate(file, 0)
    durable.write_at(file, memoryview(json.dumps(owner).encode()), 0)


def _try_lock(file: int) -> bool:
    """Whether the lock is ours.  Where there are no locks it is; the journal notices a second writer."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in (errno.EWOULDBLOCK, errno.EACCES)
    return True


def _busy(staging: Staging, file: int) -> OutputError:
    try:
        owner = parse_json(os.pread(file, 10_000, 0), code="E506")
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
