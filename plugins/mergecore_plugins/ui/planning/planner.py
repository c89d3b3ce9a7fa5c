"""Plans the newest text in a process that stands ready, and gives up older ones; read `Planner.plan`."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeAlias

from mergecore.files import parse_json
from mergecore.types import Json

Process: TypeAlias = asyncio.subprocess.Process

GRACE = 0.2
"""Seconds that a plan which newer text makes useless is waited for, before its process is ended."""
LIMIT = 1 << 28
"""Bytes of an answer at most."""


class Superseded(Exception):
    """There is newer text, so this one is not planned."""


@dataclass(frozen=True)
class Planned:
    """What came of a text: the plan as `mergecore plan --json` prints it, or what is wrong."""

    ok: bool
    faults: Sequence[Json]
    plan: Mapping[str, Any] | None
    facts: Mapping[str, Json]

    def as_json(self) -> dict[str, Json]:
        """Plain values."""
        return {
            "ok": self.ok,
            "faults": list(self.faults),
            "plan": dict(self.plan) if self.plan else None,
            "facts": dict(self.facts),
        }


class Planner:
    """A process that plans; another one takes its place when it has to be ended."""

    def __init__(self, disabled: Sequence[str] = ()) -> None:
        self._words = (
            sys.executable,
            "-P",  # as the command line does, it takes no module of the folder for one of its own
            "-m",
            "mergecore_plugins.ui.planning.worker",
            json.dumps(list(disabled)),
        )
        self._ready: asyncio.Task[Process] | None = None
        self._busy: Process | None = None
        self._turn = asyncio.Lock()
        self._newest = 0

    def start(self) -> None:
        """Start a process, so that the first plan need not wait for it."""
        if self._ready is None:
            self._ready = asyncio.create_task(self._started())

    async def plan(self, asked: Mapping[str, Json]) -> Planned:
        """What comes of a text; `asked`: as `worker.answer` takes it.

        Raises:
            Superseded: when it is asked again before it answers.
        """
        self._newest = number = self._newest + 1
        with suppress(TimeoutError):
            await asyncio.wait_for(self._turn.acquire(), GRACE)
            self._turn.release()
        if number == self._newest and self._busy is not None:
            self._busy.kill()
        async with self._turn:
            if number != self._newest:
                raise Superseded
            said = await self._said(asked)
        if said is None:
            if number != self._newest:
                raise Superseded
            return Planned(ok=False, faults=[_ENDED], plan=None, facts={})
        return Planned(**said)

    async def end(self) -> None:
        """End the processes."""
        self._newest += 1
        if self._busy is not None:
            self._busy.kill()
        if self._ready is not None:
            process = await self._ready
            self._ready = None
            process.kill()
            await process.wait()

    async def _said(self, asked: Mapping[str, Json]) -> Any:
        """The answer of a process; None where it ended without one."""
        self.start()
        assert self._ready is not None
        process = await self._ready
        self._busy = process
        try:
            assert process.stdin
            assert process.stdout
            process.stdin.write(json.dumps(asked).encode() + b"\n")
            await process.stdin.drain()
            line = await process.stdout.readline()
            return parse_json(line, code="E104", nan=True, infinite=True) if line.endswith(b"\n") else None
        except (BrokenPipeError, ConnectionResetError):
            return None
        finally:
            self._busy = None
            if process.returncode is not None or process.stdout is None or process.stdout.at_eof():
                self._ready = None
                await process.wait()
                self.start()

    async def _started(self) -> Process:
        return await asyncio.create_subprocess_exec(
            *self._words,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            limit=LIMIT,
            start_new_session=True,
        )


_ENDED: Json = {
    "code": "E001",
    "message": "the process that plans ended without an answer; `mergecore plan` may say why",
    "hint": None,
    "line": None,
    "column": None,
}
