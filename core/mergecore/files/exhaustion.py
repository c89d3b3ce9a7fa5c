"""What the system would not give: memory, threads, open files.  `exhausted` finds it in whatever was raised.

Libraries say it each in their own way and at any place, so the command line asks here before it takes an error
for a bug, and the loader of plugins before it blames a plugin.
"""

from __future__ import annotations

import errno
import resource
from collections.abc import Iterator
from contextlib import contextmanager

from mergecore.errors import MergecoreError, MergeError, text_of
from mergecore.files.sizes import size_text

_MEMORY = (
    "cannot allocate memory",
    "can't allocate memory",
    "failed to map segment",
    "can't start new thread",
    "not enough memory",
    "out of memory",
    "bad_alloc",
    "bad allocation",
)
TO_PLAN = 300_000_000
TO_RUN = 800_000_000
"""Address space that Python and libraries take without a merge."""
_FILES = (errno.EMFILE, errno.ENFILE)


def exhausted(error: BaseException, needed: int = 0) -> MergeError | None:
    """The error to report when `error` says that memory or files ran out; `needed` is what a run needs, in bytes."""
    for one in _chain(error):
        if _is_of_files(one):
            return too_many_files()
        if _is_of_memory(one):
            return _too_little_memory(one, needed)
    return None


def check_memory(needed: int) -> None:
    """Raise E406 when this process may not use `needed` bytes: libraries hang or end it where they run out."""
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit != resource.RLIM_INFINITY and limit < needed:
        bounds = f"this process may use {size_text(limit)} (`ulimit -v`), and needs about {size_text(needed)}"
        raise MergeError("E406", f"not enough memory: {bounds}", hint="allow more memory, and run again")


@contextmanager
def enough(needed: int) -> Iterator[None]:
    """Say how much memory a run needs, in bytes, when there was not enough."""
    try:
        yield
    except MergecoreError:
        raise
    except Exception as error:
        if lacking := exhausted(error, needed):
            raise lacking from error
        raise


def too_many_files() -> MergeError:
    """The error for a process that may not open another file."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    what = f"the system allows too few open files ({limit} for this process)"
    return MergeError("E407", what, hint="allow more, such as with `ulimit -n 1024`, and run again")


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _is_of_files(error: BaseException) -> bool:
    if isinstance(error, ImportError):
        return "too many open files" in text_of(error).lower()
    return isinstance(error, OSError) and error.errno in _FILES


def _is_of_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return True
    if not isinstance(error, RuntimeError | ImportError | SystemError):
        return False
    said = text_of(error).lower()
    return any(words in said for words in _MEMORY)


def _too_little_memory(error: BaseException, needed: int) -> MergeError:
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    bound = (
        f"; this process may use {size_text(limit)} (`ulimit -v`)" if limit != resource.RLIM_INFINITY else ""
    )
    need = f"; this merge needs about {size_text(needed)}" if needed else ""
    reason = next(iter(text_of(error).splitlines()), "") or type(error).__name__
    hint = "allow more memory, or take less of it with --threads 1 and --max-memory, then run again with --resume"
    return MergeError("E406", f"not enough memory{bound}{need}: {reason}", hint=hint)
