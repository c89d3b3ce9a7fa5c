"""Files of a model that others wrote: opening them without waiting and without leaving their folder.

Read `InputFolder` first: every file of a model is reached through it.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from mergecore.errors import InputError, MergecoreError, PolicyError
from mergecore.files.exhaustion import too_many_files

ReadAt = Callable[[int, int], bytes]
"""Bytes from an offset on, as many as asked for or as many as there are."""


def resolved(path: Path, place: str, roots: tuple[Path, ...] = ()) -> Path:
    """The real path of `path`, which must lie below one of `roots` if any are given.

    Raises:
        MergecoreError: E236 when it is not there or cannot be followed, E302 when it lies elsewhere.
    """
    try:
        real = Path(os.path.realpath(path, strict=True))
    except OSError as error:
        raise unreadable(error, place) from None
    if roots and not any(real.is_relative_to(root) for root in roots):
        raise PolicyError(
            "E302",
            f"symbolic link that leads outside the model directory, to '{real}'",
            place=place,
            hint="no flag allows this; put the file itself there, or name the directory that holds it",
        )
    return real


@contextmanager
def open_regular(path: Path, place: str) -> Iterator[tuple[ReadAt, os.stat_result]]:
    """A way to read parts of a regular file, and its status; `path` must be no symbolic link.

    Raises:
        MergecoreError: E309 when it is not a regular file, E236 when it cannot be opened or read.
    """
    try:
        _check_regular(os.lstat(path).st_mode, place)
        file = os.open(path, os.O_RDONLY | _CAREFULLY)
    except OSError as error:
        raise unreadable(error, place) from None
    try:
        status = os.fstat(file)
        _check_regular(status.st_mode, place)
        yield lambda offset, count: _read_fully(file, offset, count), status
    except OSError as error:
        raise unreadable(error, place) from None
    finally:
        os.close(file)


NO_STAMP = (0, 0, 0, 0)
"""The stamp of a file that is not there yet."""


def stamp_of(status: os.stat_result) -> tuple[int, ...]:
    """What changes whenever a file is written to or replaced; the last of it cannot be set back by hand."""
    return (status.st_dev, status.st_ino, status.st_mtime_ns, status.st_ctime_ns)


def sha256_of(read: ReadAt, size: int) -> str:
    """The SHA-256, in hex, of a file of `size` bytes."""
    digest = hashlib.sha256()
    for start in range(0, size, _CHUNK):
        digest.update(read(start, min(_CHUNK, size - start)))
    return digest.hexdigest()


_CHUNK = 2**20


def unreadable(error: OSError, place: str) -> MergecoreError:
    """The error E236 for what the operating system said, E407 where it is not about the file."""
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return too_many_files()
    reason = error.strerror or str(error)
    return InputError("E236", f"cannot be read: {reason[:1].lower()}{reason[1:]}", place=place)


_CAREFULLY = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
_KINDS = {
    stat.S_IFIFO: "fifo",
    stat.S_IFCHR: "character device",
    stat.S_IFBLK: "block device",
    stat.S_IFSOCK: "socket",
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "symbolic link",
}


def _check_regular(mode: int, place: str) -> None:
    if not stat.S_ISREG(mode):
        kind = _KINDS.get(stat.S_IFMT(mode), "unknown kind")
        raise PolicyError("E309", f"not a regular file ({kind})", place=place)


def _read_fully(file: int, offset: int, count: int) -> bytes:
    parts = []
    while count > 0 and (part := os.pread(file, min(count, 1 << 30), offset)):
        parts.append(part)
        offset, count = offset + len(part), count - len(part)
    return b"".join(parts)
