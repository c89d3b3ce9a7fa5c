"""Writing that survives a power cut: the few system calls the output is made with, and what their errors say.

Everything that changes the disk on behalf of the output passes through this module or through `pathlib`.
"""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from mergecore.errors import OutputError

NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
NO_PERMISSION = (errno.EACCES, errno.EPERM, errno.EROFS)
_UNSUPPORTED = (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


@contextmanager
def telling(path: Path, doing: str) -> Iterator[None]:
    """Turn the body's OSError into an OutputError that names `path` and what was being done.

    Raises:
        OutputError: E505 when permission is missing, else E504.
    """
    try:
        yield
    except OSError as error:
        raise failure(path, doing, error) from error


def failure(path: Path, doing: str, error: OSError) -> OutputError:
    """What to tell of an OSError."""
    reason = error.strerror or str(error)
    if error.errno in NO_PERMISSION:
        hint = "choose a folder you may write to"
        return OutputError("E505", f"{doing} failed: {reason}", place=str(path), hint=hint)
    if error.errno in NO_SPACE:
        hint = "free some space, then run again with --resume"
        return OutputError("E504", f"{doing} failed, the disk is full: {reason}", place=str(path), hint=hint)
    hint = "check the disk, then run again with --resume"
    return OutputError("E504", f"{doing} failed: {reason}", place=str(path), hint=hint)


def write_at(file: int, data: memoryview, offset: int) -> None:
    """Write all of `data` (bytes) at `offset`."""
    while len(data):
        count = os.pwrite(file, data, offset)
        data, offset = data[count:], offset + count


def read_at(file: int, buffer: memoryview, offset: int) -> int:
    """Fill `buffer` (bytes) from `offset` on; less than all of it only where the file ends."""
    done = 0
    while done < len(buffer):
        count = os.preadv(file, [buffer[done:]], offset + done)
        if count == 0:
            break
        done += count
    return done


def sync(file: int) -> None:
    """Make durable what an open file holds."""
    if hasattr(os, "fdatasync"):
        os.fdatasync(file)
    else:
        os.fsync(file)


def write_file(path: Path, chunks: Iterable[bytes]) -> None:
    """Write a whole file, durably but for its name: that needs `sync_folder`."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    try:
        offset = 0
        for chunk in chunks:
            write_at(file, memoryview(chunk), offset)
            offset += len(chunk)
        sync(file)
    finally:
        os.close(file)


def replace_file(path: Path, data: bytes, check: Callable[[], None] | None = None) -> None:
    """Make `path` hold `data`, durably, or leave it as it was, as it also is when `check` raises."""
    scratch = path.with_name(f"{path.name}.tmp")
    write_file(scratch, [data])
    if check:
        check()
    scratch.rename(path)
    sync_folder(path.parent)


def sync_file(path: Path) -> None:
    """Make what a file holds durable."""
    file = os.open(path, os.O_RDWR)
    try:
        sync(file)
    finally:
        os.close(file)


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable, on file systems that know how."""
    file = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(file)
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
    finally:
        os.close(file)


def allocate(file: int, size: int) -> None:
    """Reserve `size` bytes for an open file, and make it that long; what it holds up to there stays.

    The raw call: where a file system cannot reserve, the emulation in the C library writes every block.
    """
    os.ftruncate(file, size)
    arguments = (ctypes.c_int(file), ctypes.c_int(0), ctypes.c_int64(0), ctypes.c_int64(size))
    code = _call("fallocate64", *arguments) if size else 0
    if code == errno.ENOSYS:
        code = _call("fallocate", *arguments)  # the name in C libraries whose offsets always have 64 bits
    if code not in (0, *_UNSUPPORTED):
        raise OSError(code, os.strerror(code))


def exchange(one: Path, other: Path) -> bool:
    """Swap two names in one step; False where the system cannot, and nothing has changed."""
    paths = [ctypes.c_char_p(os.fsencode(path)) for path in (one, other)]
    here = ctypes.c_int(_AT_FDCWD)
    code = _call("renameat2", here, paths[0], here, paths[1], ctypes.c_uint(_RENAME_EXCHANGE))
    if code not in (0, *_UNSUPPORTED):
        raise OSError(code, os.strerror(code))
    return code == 0


def remove_tree(path: Path) -> None:
    """Delete a folder with all it holds, if it is there."""
    if path.exists():
        shutil.rmtree(path)


def _call(name: str, *arguments: ctypes._SimpleCData[int] | ctypes._SimpleCData[bytes | None]) -> int:
    function = getattr(ctypes.CDLL(None, use_errno=True), name, None)
    if function is None:
        return errno.ENOSYS
    while function(*arguments) != 0:
        code = ctypes.get_errno()
        if code != errno.EINTR:
            return code
    return 0
