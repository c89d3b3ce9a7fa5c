"""Writing that survives a power cut: the few system calls the output is made with, and what their errors say.

Everything that changes the disk on behalf of the output passes through this module or through `pathlib`.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from mergecore.errors import MergecoreError, OutputError
from mergecore.files.exhaustion import exhausted

NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
NO_PERMISSION = (errno.EACCES, errno.EPERM, errno.EROFS)
_UNSUPPORTED = (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)
_RENAME_EXCHANGE = 2


@contextmanager
def telling(path: Path, doing: str) -> Iterator[None]:
    """Turn the body's OSError into an OutputError that names `path` and what was being done.

    Raises:
        OutputError: E505 when permission is missing, else E504.
        MergeError: E406 or E407 when the system gives no more memory or open files.
    """
    try:
        yield
    except OSError as error:
        raise failure(path, doing, error) from error


def failure(path: Path, doing: str, error: OSError) -> MergecoreError:
    """What to say about an OSError."""
    if lacking := exhausted(error):
        return lacking
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


def write_all(file: int, chunks: Iterable[bytes]) -> None:
    """Write `chunks` one after the other from the beginning of a file, durably."""
    offset = 0
    for chunk in chunks:
        write_at(file, memoryview(chunk), offset)
        offset += len(chunk)
    sync(file)


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable, on file systems that know how."""
    file = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        sync_names(file)
    finally:
        os.close(file)


def sync_names(folder: int) -> None:
    """Make the names in an open folder durable, on file systems that know how."""
    try:
        os.fsync(folder)
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise


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


def exchange(one: tuple[int, str], other: tuple[int, str]) -> bool:
    """Swap two names, each in an open folder, in one step; False where the system cannot: nothing has changed."""
    places = [
        part
        for folder, name in (one, other)
        for part in (ctypes.c_int(folder), ctypes.c_char_p(os.fsencode(name)))
    ]
    code = _call("renameat2", *places, ctypes.c_uint(_RENAME_EXCHANGE))
    if code not in (0, *_UNSUPPORTED):
        raise OSError(code, os.strerror(code))
    return code == 0


def _call(name: str, *arguments: ctypes._SimpleCData[int] | ctypes._SimpleCData[bytes | None]) -> int:
    function = getattr(ctypes.CDLL(None, use_errno=True), name, None)
    if function is None:
        return errno.ENOSYS
    while function(*arguments) != 0:
        code = ctypes.get_errno()
        if code != errno.EINTR:
            return code
    return 0
