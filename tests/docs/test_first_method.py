"""The tutorial of the first method, followed literally: every command runs, and prints what the page shows."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from baked_plugins import Environment, build_wheel

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "tutorial" / "first-method.md"
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
FILE = re.compile(r"`([\w/.]+\.(?:py|yml|toml))`")
CHANGING = re.compile(r"\d+(\.\d+)? ?(s|B|kB|MB|GB)(/s)?\b|(?<=test)s?\b in ")
PROGRESS = re.compile(r"^\d+ of \d+ tensors, .*\n", re.MULTILINE)
"""What a merge says now and then where it takes long."""
LAST = "## All that a plugin needs"


@dataclass
class Command:
    """A line after `$`, and the lines that it prints."""

    line: str
    shown: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Written:
    """A file whose whole text the page shows."""

    name: str
    text: str


def steps(page: str) -> Iterator[Command | Written]:
    """What the reader does, in order; a file is called as the paragraph before it says last."""
    for match in FENCE.finditer(page):
        language, text = match.groups()
        if language != "console":
            before = page[: match.start()].rstrip().rpartition("\n\n")[2]
            yield Written(FILE.findall(before)[-1], text)
            continue
        command: Command | None = None
        for line in text.splitlines():
            if line.startswith("$ "):
                if command:
                    yield command
                command = Command(line.removeprefix("$ "))
            else:
                assert command, f"what prints this? {line}"
                command.shown.append(line)
        if command:
            yield command


class Shell:
    """One session of bash, in which an environment is active."""

    def __init__(self, folder: Path, environment: Path, log: Path) -> None:
        environ = {
            name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PIP_"))
        }
        # without a network: what pip builds with, and what it needs, is here already
        offline = {
            "PIP_NO_BUILD_ISOLATION": "0",
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "PIP_CONFIG_FILE": "/dev/null",
        }
        path = f"{environment / 'bin'}:{environ['PATH']}"
        self._log = log.open("w+b")
        self._read = 0
        self._process = subprocess.Popen(
            ["/bin/bash", "--norc", "--noprofile"],
            cwd=folder,
            env={**environ, **offline, "PATH": path, "VIRTUAL_ENV": str(environment), "COLUMNS": "80"},
            stdin=subprocess.PIPE,
            stdout=self._log,
            stderr=self._log,
            text=True,
        )

    def run(self, line: str, seconds: float = 300) -> tuple[int, str]:
        """The exit code of a command line, and what it prints."""
        assert self._process.stdin
        self._process.stdin.write(f'{line}\necho "<done $?>"\n')
        self._process.stdin.flush()
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            time.sleep(0.05)
            text = Path(self._log.name).read_bytes()[self._read :].decode()
            if ended := re.search(r"<done (\d+)>\n", text):
                self._read += len(text[: ended.end()].encode())
                return int(ended[1]), text[: ended.start()]
        raise AssertionError(f"'{line}' takes too long")

    def write(self, written: Written) -> None:
        """Save a file of the page in the current folder of the session."""
        _, folder = self.run("pwd")
        (Path(folder.strip()) / written.name).write_text(written.text, encoding="utf8")

    def close(self) -> None:
        """End the session, and what it left running."""
        self._process.communicate("kill $(jobs -p) 2>/dev/null; exit\n", timeout=60)
        self._log.close()


def alike(printed: str, shown: list[str]) -> bool:
    """Whether a command prints what the page shows; `…` is any text, times and sizes are of any size."""
    printed = PROGRESS.sub("", printed)
    pattern = "\n".join(re.escape(fixed(line)).replace("…", ".*") for line in shown)
    return (
        re.fullmatch(pattern, "\n".join(fixed(line.rstrip()) for line in printed.splitlines()), re.DOTALL)
        is not None
    )


def fixed(line: str) -> str:
    return CHANGING.sub("N", line)


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    """A session in an empty folder, with mergecore and pip installed."""
    environment = Environment(tmp_path / "environment")
    environment.install(build_wheel(ROOT, tmp_path / "dist"))
    for name, module in (("pip", "pip"), ("pytest", "pytest")):
        script = tmp_path / "environment" / "bin" / name
        script.write_text(f'#!/bin/sh\nexec {environment.python} -m {module} "$@"\n')
        script.chmod(0o755)
    (tmp_path / "work").mkdir()
    made = Shell(tmp_path / "work", tmp_path / "environment", tmp_path / "log")
    yield made
    made.close()


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def test_the_page_is_followed_literally(shell: Shell) -> None:
    page = PAGE.read_text(encoding="utf8").partition(LAST)[0].replace("8765", str(free_port()))
    count, start = 0, time.monotonic()
    others: list[str] = []
    for step in steps(page):
        if isinstance(step, Written):
            shell.write(step)
            continue
        code, printed = shell.run(step.line)
        expected = any(line.startswith("mergecore: error") for line in step.shown)
        if (code != 0) != expected or not alike(printed, step.shown):
            others.append(f"$ {step.line}\n{printed}")
        if step.line.endswith("&"):
            shell.run("sleep 1")  # a reader types slower than a server starts
        count += 1
    assert not others, "\n".join(others)
    assert count > 20
    assert time.monotonic() - start < 15 * 60


def test_what_differs_from_the_page_is_found() -> None:
    assert alike("done: out (3 kB in 0.1 s, 4 MB/s)\n", ["done: out (257 kB in 12 s, 874 kB/s)"])
    assert alike("a\nb\nc\n", ["a", "…"])
    assert not alike("a\nb\n", ["a"])
    assert not alike("merged: 28 tensors\n", ["merged: 29 tensors"])
