"""The runs of a folder: one at a time, in the order in which they were asked for; read `Runs`."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from mergecore_plugins.ui.configs.files import state
from mergecore_plugins.ui.runs.run import CONFIG, Run, begin, ended, interrupt, read

POLL = 0.1
"""Seconds between two looks at a run whose end no one else tells of."""
PATIENCE = 20.0
"""Seconds that a stopped run has before the server ends without it."""


class Runs:
    """What was asked for in a folder, what runs, and what came of it.  It outlives the server.

    A merge is stopped when the server ends in order; where the server is killed the merge goes on, and the next
    server finds it.
    """

    def __init__(self, folder: Path, disabled: Sequence[str] = ()) -> None:
        self._folder = folder
        self._blocked = [word for name in disabled for word in ("--no-plugin", name)]
        self._runs: dict[int, Run] = {}
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._closing = False

    def start(self) -> None:
        """Read what earlier servers left, and go on with it."""
        for folder in self._place.iterdir() if self._place.is_dir() else ():
            if folder.name.isdigit() and (found := read(self._relative(folder))):
                self._runs[found.number] = found
        self._task = asyncio.create_task(self._work())

    async def end(self) -> None:
        """Stop what runs, as Ctrl-C does."""
        self._closing = True
        self._news.set()
        for one in self.all:
            if one.state == "running" and not one.stopping:
                self.stop(one.number)
        if self._task is not None:
            with suppress(TimeoutError, asyncio.CancelledError):
                await asyncio.wait_for(self._task, PATIENCE)

    @property
    def all(self) -> list[Run]:
        """All runs, the newest first."""
        return [self._runs[number] for number in sorted(self._runs, reverse=True)]

    def get(self, number: int) -> Run | None:
        """A run by its number."""
        return self._runs.get(number)

    def add(
        self,
        words: Sequence[str],
        *,
        config: str = "",
        title: str = "",
        out: str = "",
        extra: Sequence[str] = (),
    ) -> Run:
        """Queue a command line.

        words: those behind `mergecore`; `{config}` among them stands for a file that holds the text `config`.
        out: the folder that it makes, where it can be resumed.
        extra: options to add that nobody would type, such as `--json`.
        """
        number = (
            max((int(one.name) for one in self._place.glob("[0-9]*") if one.name.isdigit()), default=0) + 1
        )
        folder = self._place / str(number)
        folder.mkdir(parents=True)
        if config:
            (folder / CONFIG).write_text(config, encoding="utf8")
        run = Run(
            number,
            self._relative(folder),
            list(words),
            title or " ".join(words[:1]),
            [*extra, *self._blocked],
            created=time.time(),
            out=out,
        )
        self._put(run.keep())
        return run

    def stop(self, number: int) -> None:
        """Stop a run as Ctrl-C does, or take it out of the queue."""
        run = self._runs.get(number)
        if run is None:
            return
        if run.state == "waiting":
            self._put(replace(run, state="stopped", ended=time.time()).keep())
        elif run.state == "running":
            interrupt(run)
            self._put(replace(run, stopping=True))

    def again(self, number: int, *words: str) -> None:
        """Queue a run again; `words` are options that say how, such as `--resume`."""
        run = self._runs.get(number)
        if run is None or run.live:
            return
        added = {"--resume", "--restart", "--overwrite"}
        kept = [one for one in run.words if one not in added]
        self._put(replace(run, words=[*kept, *words], state="waiting", ended=None, exit_code=None).keep())

    def remove(self, number: int) -> None:
        """Forget a run that is over; what it made stays."""
        run = self._runs.get(number)
        if run is not None and not run.live:
            del self._runs[number]
            shutil.rmtree(run.folder, ignore_errors=True)

    @property
    def _place(self) -> Path:
        return state(self._folder) / "runs"

    def _relative(self, folder: Path) -> Path:
        return folder.relative_to(self._folder)

    def _put(self, run: Run) -> None:
        self._runs[run.number] = run
        self._news.set()

    async def _work(self) -> None:
        """Carry out what waits, one after the other, and watch what an earlier server began."""
        while not self._closing:
            for one in self.all:
                if one.state == "running":
                    await self._watched(one)
            waiting = [one for one in reversed(self.all) if one.state == "waiting"]
            if waiting:
                run, process = begin(waiting[0])
                self._put(run)
                await self._carried_out(run, process)
                continue
            self._news.clear()
            if not any(one.live for one in self.all):
                await self._news.wait()

    async def _carried_out(self, run: Run, process: subprocess.Popen[bytes]) -> None:
        while (code := process.poll()) is None:
            await asyncio.sleep(POLL)
        self._put(ended(self._runs[run.number], code))

    async def _watched(self, run: Run) -> None:
        """Wait for the end of a run that is no child of this process."""
        while run.holds_lock():
            await asyncio.sleep(POLL)
        self._put(ended(self._runs[run.number], None))
