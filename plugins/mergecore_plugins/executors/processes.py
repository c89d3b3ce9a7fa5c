"""The executor `processes`: each worker is a process of its own, which makes one tensor after the other.

A worker that dies, whatever ended it, is replaced, and its tensor is made again: read `run_processes`.
"""

from __future__ import annotations

import os
import pickle
import signal
import traceback
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any

from mergecore import Executor, NoParams, hookimpl
from mergecore.errors import MergecoreError, MergeError, PluginError
from mergecore.types import Alone, Job, StepResult
from mergecore_plugins.executors.threads import threads

DEATHS = 5
"""So often workers may die on one tensor, or before the first, until the run gives up."""
MEMORY = 250 << 20
"""Bytes that Python and torch take in each process."""


def run_processes(job: Job, params: NoParams) -> Iterator[StepResult]:
    """Results in the order they are finished; the first exception of a worker stops all and is raised."""
    if not job.steps:
        return
    pool = _Pool(job, _packed(job))
    try:
        yield from pool.results()
    finally:
        pool.stop()


def _packed(job: Job) -> bytes:
    try:
        return pickle.dumps(job)
    except MergecoreError:
        raise
    except Exception as error:
        what = f"this merge cannot be sent to another process: {error}"
        raise PluginError("E605", what, hint="use the executor 'threads'") from error


@dataclass
class _Worker:
    """A process, the pipe to it, and the tensor that it makes."""

    process: SpawnProcess
    pipe: Connection
    step: int | None = None
    ready: bool = False


class _Pool:
    """The workers of a run."""

    def __init__(self, job: Job, packed: bytes) -> None:
        self._steps = job.steps
        self._packed = packed
        self._todo = deque(range(len(job.steps)))
        self._deaths: Counter[int | None] = Counter()
        self._workers: list[_Worker] = []
        self._wanted = min(job.workers, len(job.steps))

    def results(self) -> Iterator[StepResult]:
        """Every step's result."""
        for _ in range(self._wanted):
            self._start()
        missing = len(self._steps)
        while missing:
            for worker in self._speaking():
                result = self._heard(worker)
                if result is not None:
                    missing -= 1
                    yield result

    def stop(self) -> None:
        """End all workers; what they were writing is of no use."""
        for worker in self._workers:
            worker.process.kill()
        for worker in self._workers:
            worker.process.join()
            worker.pipe.close()
        self._workers.clear()

    def _start(self) -> None:
        ours, theirs = get_context("spawn").Pipe()
        process = get_context("spawn").Process(target=_work, args=(theirs, self._packed), daemon=True)
        process.start()
        theirs.close()
        self._workers.append(_Worker(process, ours))

    def _speaking(self) -> list[_Worker]:
        """The workers that say something, or have died."""
        found = wait([worker.pipe for worker in self._workers])
        return [worker for worker in self._workers if worker.pipe in found]

    def _heard(self, worker: _Worker) -> StepResult | None:
        """What a worker says; it gets the next tensor, or is replaced when it has died."""
        kind, value = _received(worker.pipe)
        if kind == "dead":
            self._replace(worker)
            return None
        if kind == "error":
            raise value
        self._deaths[worker.step if worker.ready else None] = 0
        worker.ready = True
        worker.step = self._todo.popleft() if self._todo else None
        if worker.step is not None:
            self._send(worker)
        return value if kind == "done" else None

    def _send(self, worker: _Worker) -> None:
        try:
            worker.pipe.send(worker.step)
        except OSError:  # it has died: the end of the pipe says so
            return

    def _replace(self, worker: _Worker) -> None:
        worker.process.join()
        worker.pipe.close()
        self._workers.remove(worker)
        self._deaths[worker.step] += 1
        if self._deaths[worker.step] >= DEATHS:
            raise self._given_up(worker)
        if worker.step is not None:
            self._todo.appendleft(worker.step)
        if self._todo:
            self._start()

    def _given_up(self, worker: _Worker) -> MergeError:
        how = _ending(worker.process.exitcode)
        if worker.step is None:
            what = f"{DEATHS} worker processes {how} before they began"
            hint = "in a script, call mergecore below `if __name__ == '__main__':`; or use the executor 'threads'"
            return MergeError("E408", what, hint=hint)
        name = self._steps[worker.step].name
        what = f"tensor '{name}': {DEATHS} worker processes {how} while they made it"
        return MergeError("E408", what, tensor=name, hint="allow more memory, or use the executor 'threads'")


def _received(pipe: Connection) -> tuple[str, Any]:
    try:
        kind, value = pipe.recv()
    except (EOFError, OSError):
        return "dead", None
    return kind, value


def _ending(code: int | None) -> str:
    if code is not None and code < 0:
        return f"were ended by {signal.Signals(-code).name}"
    return f"ended with exit code {code}"


# ---- in the worker -----------------------------------------------------------------------------------------


def _work(pipe: Connection, packed: bytes) -> None:
    """What a worker process does: a step for every number that it is sent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that began the run ends this one
    os.dup2(2, 1)  # results are printed by that one alone
    try:
        job: Job = pickle.loads(packed)  # noqa: S301 - this run wrote it
        with job.open() as run_step:
            pipe.send(("ready", None))
            while True:
                step = job.steps[pipe.recv()]
                pipe.send(("done", run_step(step, Alone())))
    except (EOFError, BrokenPipeError):
        return  # nobody waits any more
    except BaseException as error:  # noqa: BLE001 - it is raised where the run was begun
        pipe.send(("error", _portable(error)))


def _portable(error: BaseException) -> BaseException:
    """The error as the other process gets it, with what led to it."""
    text = "".join(traceback.format_exception(error))
    if not isinstance(error, MergecoreError):
        error.add_note(f"in a worker process:\n{text}")
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 - written a moment ago
    except Exception:  # noqa: BLE001 - exceptions of plugins may hold anything
        return RuntimeError(text)
    return error


@hookimpl
def mergecore_executors() -> Iterator[Executor[NoParams]]:
    yield Executor(
        name="processes",
        run=run_processes,
        workers=threads,
        memory=MEMORY,
        params=NoParams,
        summary="a process for each worker, one tensor after the other",
    )
