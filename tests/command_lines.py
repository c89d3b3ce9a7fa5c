"""Runs command lines of mergecore in one process, which reads them from standard input and answers in JSON.

Each is `[folder, environment, words]`; the answer to each is its exit code, and what it printed.
"""

from __future__ import annotations

import io
import json
import os
import sys
from contextlib import redirect_stderr, redirect_stdout

from mergecore.cli.app import run


def outcome(folder: str, environment: dict[str, str], words: list[str]) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of a command line."""
    os.chdir(folder)
    os.environ.update(environment)
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = run(words)
    for name in environment:
        del os.environ[name]
    return code, out.getvalue(), err.getvalue()


if __name__ == "__main__":
    print(json.dumps([outcome(*one) for one in json.load(sys.stdin)]))  # noqa: T201
