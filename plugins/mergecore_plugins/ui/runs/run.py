"""One command line that the page carries out, and everything that is known of it, in a folder of its own.

`Run` is what stands in `run.json`.  How far it is comes from what the command itself writes, so that it is known after
a restart of the server, too; whether it still runs, from a lock that it holds.
"""

from __future__ import annotations

import fcntl
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

from mergecore import MergecoreError
from mergecore.files import read_json
from mergecore_plugins.ui.configs.files import write

State: TypeAlias = Literal["waiting", "running", "done", "failed", "stopped"]

RECORD, CONFIG, OUTPUT, ERRORS, LOCK = "run.json", "config.yml", "out.log", "err.log", "lock"
PLACE = "{config}"
"""What stands in `words` for the config of the run."""


@dataclass(frozen=True)
class Run:
    """A command line; `folder` is relative to the working folder, which it is carried out in.

    words: those behind `mergecore`, as somebody would type them.
    extra: options that the page adds to hear how far it is.
    exit_code: None as long as it runs, and where the server did not see the end.
    """

    number: int
    folder: Path
    words: Sequence[str]
    title: str
    extra: Sequence[str] = ()
    state: State = "waiting"
    pid: int | None = None
    created: float = 0.0
    started: float | None = None
    ended: float | None = None
    exit_code: int | None = None
    out: str = ""
    """The folder that it makes, if it makes one."""
    stopping: bool = field(default=False, compare=False)

    @property
    def command(self) -> str:
        """What to type for it, in the folder of the page."""
        return shlex.join(["mergecore", *self.filled])

    @property
    def filled(self) -> list[str]:
        """The words, with the path of the config."""
        config = (self.folder / CONFIG).as_posix()
        return [config if one == PLACE else one for one in self.words]

    @property
    def reported(self) -> str:
        """The merged model that it wrote a report about; empty for any other run."""
        return self.words[1] if self.state == "done" and self.words[0] == "report" else ""

    @property
    def live(self) -> bool:
        """Whether it runs, or waits for its turn."""
        return self.state in ("waiting", "running")

    @property
    def config(self) -> str:
        """The config as it was when the run was asked for; empty for a run without one."""
        return _text(self.folder / CONFIG)

    @property
    def output(self) -> str:
        """What it wrote to standard output."""
        return _text(self.folder / OUTPUT)

    @property
    def errors(self) -> str:
        """What it wrote to standard error; where it was stopped while it started, that."""
        text = _text(self.folder / ERRORS)
        early = self.state == "stopped" and "KeyboardInterrupt" in text
        return "mergecore: interrupted before it began" if early else text

    @property
    def told(self) -> str:
        """Its messages, in which its config, a file that nobody else knows, is this merge."""
        return self.errors.replace((self.folder / CONFIG).as_posix(), "this merge")

    @property
    def ways_on(self) -> Sequence[tuple[str, str]]:
        """What can be done about a run that did not come to its end: a word for it, and what a button says."""
        if not self.out or self.state not in ("stopped", "failed"):
            return ()
        text = self.errors
        if "--overwrite" in text:
            return [("overwrite", "Replace what is there")]
        again = [("restart", "Start again")] if "--restart" in text else []
        return again if again and "--resume to" not in text else [("resume", "Resume"), *again]

    def keep(self) -> Run:
        """Write down what is known of it."""
        facts = {key: value for key, value in asdict(self).items() if key not in ("folder", "stopping")}
        write(self.folder / RECORD, json.dumps(facts))
        return self

    def holds_lock(self) -> bool:
        """Whether its process is still there, whoever started it."""
        with suppress(FileNotFoundError), (self.folder / LOCK).open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False


def read(folder: Path) -> Run | None:
    """The run of a folder; None where it is none, or one that was not written to the end."""
    try:
        facts: Any = read_json(folder / RECORD, code="E104")
        return Run(**facts, folder=folder)
    except (OSError, MergecoreError, TypeError):
        return None


def begin(run: Run) -> tuple[Run, subprocess.Popen[bytes]]:
    """Start its process, in a session of its own: what ends the server does not reach it by itself."""
    words = [sys.executable, "-P", "-m", "mergecore", *run.filled, *run.extra]
    for name in (OUTPUT, ERRORS):
        (run.folder / name).write_bytes(b"")
    with (
        (run.folder / LOCK).open("ab") as lock,
        (run.folder / OUTPUT).open("ab") as output,
        (run.folder / ERRORS).open("ab") as errors,
    ):
        fcntl.flock(lock, fcntl.LOCK_EX)  # it goes on to hold as long as the process has the file open
        process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=errors,
            pass_fds=[lock.fileno()],
            start_new_session=True,
            env={**os.environ, "COLUMNS": "100"},
        )
    now = time.time()
    kept = replace(run, state="running", pid=process.pid, started=now, ended=None, exit_code=None)
    return kept.keep(), process


def interrupt(run: Run) -> None:
    """What Ctrl-C does; a second time ends the process at once."""
    if run.pid is not None and run.holds_lock():
        with suppress(ProcessLookupError):
            os.killpg(run.pid, signal.SIGINT)


def ended(run: Run, exit_code: int | None) -> Run:
    """The run, once its process is gone; where the exit code is not known, by what the command wrote."""
    state: State
    if exit_code is None:
        state = "done" if '"event": "ModelSealed"' in run.output else "stopped"
    elif exit_code == 0:
        state = "done"
    else:
        stopped = run.stopping or exit_code < 0 or exit_code in (128 + signal.SIGINT, 128 + signal.SIGTERM)
        state = "stopped" if stopped else "failed"
    return replace(run, state=state, ended=time.time(), exit_code=exit_code, stopping=False).keep()


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf8", errors="replace")
    except OSError:
        return ""
