"""The executor `threads`: each worker takes the next tensor; who is idle helps with the blocks of the others."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count

from mergecore import Executor, NoParams, hookimpl
from mergecore.types import Alone, Job, RunStep, Step, StepResult, Workers


def run_threads(job: Job, params: NoParams) -> Iterator[StepResult]:
    """Results in the order they are finished; the first exception of a worker stops all and is raised."""
    with job.open() as run_step:
        if job.workers <= 1:
            yield from (run_step(step, Alone()) for step in job.steps)
            return
        results: queue.Queue[StepResult | BaseException] = queue.Queue()
        crew = _Crew(job.steps, run_step, results)
        with crew.started(job.workers):
            for _ in job.steps:
                result = results.get()
                if isinstance(result, BaseException):
                    raise result
                yield result


@contextmanager
def threads(workers: int) -> Iterator[Workers]:
    """So many threads, this one included, that share the blocks of whatever is asked of them."""
    if workers <= 1:
        yield Alone()
        return
    crew = _Crew((), _no_step, queue.Queue(), waiting=True)
    with crew.started(workers - 1):
        yield crew


def _no_step(step: Step, workers: Workers) -> StepResult:
    raise AssertionError("there are no steps")


class _Stopped(BaseException):
    """The run is over and nobody waits for this work; no `except Exception` of a step may keep it."""


class _Pass:
    """One pass over the blocks of a tensor, open to helpers."""

    def __init__(self, total: int, work: Callable[[int], None]) -> None:
        self.total = total
        self.work = work
        self.indices = count()
        self.open = True
        self.helpers = 0
        self.error: BaseException | None = None


class _Crew:
    """Workers that share steps, and the blocks of steps.

    waiting: they stay for passes that somebody else begins, until they are stopped.
    """

    def __init__(
        self,
        steps: Sequence[Step],
        run_step: RunStep,
        results: queue.Queue[StepResult | BaseException],
        *,
        waiting: bool = False,
    ) -> None:
        self._remaining = iter(steps)
        self._run_step = run_step
        self._results = results
        self._changed = threading.Condition()
        self._passes: list[_Pass] = []
        self._unfinished = len(steps) + waiting
        self._stopped = False

    @contextmanager
    def started(self, workers: int) -> Iterator[None]:
        """So many threads at work; they end with the body."""
        started: list[threading.Thread] = []
        try:
            for index in range(workers):
                thread = threading.Thread(target=self.work, name=f"mergecore-{index}")
                thread.start()
                started.append(thread)
            yield
        finally:
            self.stop()
            for thread in started:
                thread.join()

    def work(self) -> None:
        """Work on steps, then help with those of others, until all are done; what a worker thread does."""
        try:
            while (step := self._next_step()) is not None:
                self._results.put(self._run_step(step, self))
                self._step_done()
            self._help_others()
        except _Stopped:
            pass
        except BaseException as error:  # noqa: BLE001 - it is raised in the thread that asked for the run
            self._results.put(error)
            self.stop()

    def stop(self) -> None:
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def for_each(self, count: int, work: Callable[[int], None]) -> None:
        if count <= 1:
            return Alone().for_each(count, work)
        shared = _Pass(count, work)
        with self._changed:
            self._passes.append(shared)
            self._changed.notify_all()
        self._work_on(shared)
        with self._changed:
            self._passes.remove(shared)
            self._changed.wait_for(lambda: shared.helpers == 0)
        if shared.error is not None:
            raise shared.error
        return None

    def _next_step(self) -> Step | None:
        with self._changed:
            return None if self._stopped else next(self._remaining, None)

    def _step_done(self) -> None:
        with self._changed:
            self._unfinished -= 1
            self._changed.notify_all()

    def _help_others(self) -> None:
        while (shared := self._join_pass()) is not None:
            self._work_on(shared)
            with self._changed:
                shared.helpers -= 1
                self._changed.notify_all()

    def _join_pass(self) -> _Pass | None:
        with self._changed:
            self._changed.wait_for(lambda: self._open_pass() or not self._unfinished or self._stopped)
            shared = None if self._stopped else self._open_pass()
            if shared:
                shared.helpers += 1
            return shared

    def _open_pass(self) -> _Pass | None:
        return next((shared for shared in self._passes if shared.open), None)

    def _work_on(self, shared: _Pass) -> None:
        """Work on blocks until none is left; an error ends the pass and is raised where it began."""
        try:
            while shared.open:
                if self._stopped:
                    raise _Stopped
                index = next(shared.indices)
                if index >= shared.total:
                    shared.open = False
                else:
                    shared.work(index)
        except BaseException as error:  # noqa: BLE001 - `for_each` raises it
            shared.open = False
            shared.error = shared.error or error


@hookimpl
def mergecore_executors() -> Iterator[Executor[NoParams]]:
    yield Executor(
        name="threads",
        run=run_threads,
        workers=threads,
        params=NoParams,
        summary="threads of this process; the default",
    )
