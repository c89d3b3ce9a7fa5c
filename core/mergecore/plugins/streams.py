"""Whose words go where: standard output is for results, what plugins print goes to standard error.

Read `Streams`; `keep_descriptor_for_results` does the same for what C code writes.
"""

from __future__ import annotations

import io
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import TextIO


class Streams:
    """The standard output of a registry, while code of plugins runs and while it does not."""

    def __init__(self) -> None:
        self._results: TextIO | None = None
        """Where results go while plugins are at work."""

    @contextmanager
    def of_plugins(self) -> Iterator[None]:
        """While code of plugins runs, send what is printed to standard error."""
        if self._results is not None or threading.current_thread() is not threading.main_thread():
            yield
            return
        self._results = sys.stdout
        try:
            with redirect_stdout(sys.stderr):
                yield
        finally:
            self._results = None

    @contextmanager
    def of_results(self) -> Iterator[None]:
        """Within the work of plugins, let what is printed be a result again."""
        results, self._results = self._results, None
        try:
            with redirect_stdout(_OfThisThread(results) if results else sys.stdout):
                yield
        finally:
            self._results = results


class _OfThisThread(io.TextIOBase):
    """Results for the thread that made it; what workers print meanwhile goes to standard error."""

    def __init__(self, results: TextIO) -> None:
        self._results = results
        self._thread = threading.current_thread()

    def _stream(self) -> TextIO:
        return self._results if threading.current_thread() is self._thread else sys.stderr

    def write(self, text: str) -> int:
        return self._stream().write(text)

    def flush(self) -> None:
        self._stream().flush()

    def isatty(self) -> bool:
        return self._results.isatty()


def keep_descriptor_for_results() -> None:
    """Let `sys.stdout` alone write to standard output: whoever writes to descriptor 1 writes to standard error."""
    stdout = sys.stdout
    if not isinstance(stdout, io.TextIOWrapper) or stdout.fileno() != 1:
        return
    stdout.flush()
    own = os.dup(1)
    os.dup2(2, 1)
    sys.stdout = io.TextIOWrapper(
        os.fdopen(own, "wb", buffering=0), stdout.encoding, stdout.errors, write_through=True
    )
