"""The page of `mergecore ui` in the tests: its address and key, a config, and a server in a process of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PORT = 8484
KEY = "not-a-secret"
HERE = f"http://127.0.0.1:{PORT}"

CONFIG = """\
# the mean of two
merge_method: linear
models:
  - model: a
    parameters: {weight: 1}
  - model: b
    parameters: {weight: 1}
"""


@contextmanager
def served(folder: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The process of a server, and the address that it prints."""
    command = [sys.executable, "-m", "mergecore", "ui", str(folder), "--port=0", "--no-browser", *options]
    environ = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environ) as process:
        try:
            assert process.stdout
            found = None
            while not found:
                found = re.search(r"http://\S+", process.stdout.readline())
            yield process, found[0]
        finally:
            process.kill()
