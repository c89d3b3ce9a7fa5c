"""Hears what a plugin asks of its process that is another thing each time, such as the clock; read `Listening`."""

from __future__ import annotations

import builtins
import datetime as dt
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

CLOCKS = frozenset(
    f"{name}{unit}"
    for name in ("time", "monotonic", "perf_counter", "process_time", "thread_time")
    for unit in ("", "_ns")
) | {"localtime", "gmtime", "ctime", "asctime"}
ASKED_THROUGH = {"random", "uuid", "secrets", "datetime", "_strptime", "tempfile", "calendar"}
"""Modules of Python that ask on behalf of who calls them; others do so for reasons of their own."""


class Listening:
    """While it lasts, what functions of a package ask of clocks, processes, threads and addresses: `heard`."""

    def __init__(self, package: str) -> None:
        self.heard: list[str] = []
        self._package = package
        self._before: Any = None

    def __enter__(self) -> Listening:
        """Begin."""
        self._before = sys.getprofile()
        sys.setprofile(self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End, and leave everything as it was."""
        sys.setprofile(self._before)

    def _note(self, frame: FrameType, event: str, called: Any) -> None:
        if event != "c_call":
            return
        what = _asked(called)
        asker = self._asker(frame) if what else None
        if asker:
            self.heard.append(f"{what} ({Path(asker.f_code.co_filename).name}, line {asker.f_lineno})")

    def _asker(self, frame: FrameType) -> FrameType | None:
        """The function of the package on whose behalf something is asked."""
        asking: FrameType | None = frame
        while asking and (_package(asking) in ASKED_THROUGH or asking.f_code.co_name == "current_thread"):
            asking = asking.f_back
        return asking if asking and self._counts(asking) else None

    def _counts(self, frame: FrameType) -> bool:
        """Whether a function is of the package, or of none that is installed, as in tests."""
        package = _package(frame)
        installed = package == "mergecore" or package in sys.stdlib_module_names
        return package == self._package or not (installed or "site-packages" in frame.f_code.co_filename)


def _package(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0]


def _asked(called: Callable[..., object]) -> str | None:
    """What a function of C tells that is another thing each time; None for all others."""
    name, owner = getattr(called, "__name__", ""), getattr(called, "__self__", None)
    if owner is time and name in CLOCKS:
        return f"the clock by time.{name}"
    if isinstance(owner, type) and issubclass(owner, dt.date) and name in ("now", "utcnow", "today"):
        return f"the clock by {owner.__name__}.{name}"
    return _OTHERS.get(called)


_OTHERS: dict[Callable[..., object], str] = {
    os.urandom: "random bytes by os.urandom",
    os.getpid: "the number of the process by os.getpid",
    threading.get_ident: "the number of the thread by threading.get_ident",
    threading.get_native_id: "the number of the thread by threading.get_native_id",
    builtins.id: "an address by id()",
    builtins.hash: "hash(), which is another number for a text in each process",
}
