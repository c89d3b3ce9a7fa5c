"""Programs on a terminal of some width, and what it gets to see of them."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Mapping, Sequence

ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
"""What moves the cursor, or changes a colour."""


def python_on_a_terminal(code: str, columns: int, variables: Mapping[str, str] | None = None) -> str:
    """What a terminal of that width gets to see of a program of Python."""
    return on_a_terminal([sys.executable, "-c", code], columns, variables)[0]


def on_a_terminal(
    words: Sequence[str], columns: int, variables: Mapping[str, str] | None = None
) -> tuple[str, int]:
    """What a terminal of that width gets to see of a command, and how that ends."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    environment = {
        key: value for key, value in os.environ.items() if key not in ("COLUMNS", "LINES", "NO_COLOR")
    }
    with subprocess.Popen(
        words,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=environment | {"TERM": "xterm", "PYTHONIOENCODING": "utf-8"} | dict(variables or {}),
    ) as process:
        os.close(theirs)
        seen = b""
        while True:
            try:
                chunk = os.read(ours, 65536)
            except OSError:  # nobody is at the other end any more
                break
            if not chunk:
                break
            seen += chunk
    os.close(ours)
    return seen.decode().replace("\r\n", "\n"), process.returncode
