"""The executor `threads`: each worker takes the next tensor; who is idle helps with the blocks of the others."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from itertools import count

from mergecore import Executor, hookimpl
from mergecore.types import RunStep, Step, StepResult


def run_threads(steps: Sequence[Step], run_step: RunStep, workers: int) -> Iterator[StepResult]:
    """Results in the order they are finished; the first exception of a worker stops all and is raised."""
    if workers <= 1:
        yield from (run_step(step, _Alone()) for step in steps)
        return
    crew = _Crew(len(steps))
    results: queue.Queue[StepResult | BaseException] = queue.Queue()
    remaining = iter(steps)

    def work() -> None:
        try:
            while (step := crew.next_step(remaining)) is not None:
                results.put(run_step(step, crew))
                crew.step_done()
            crew.help_others()
        except BaseException as error:  # noqa: BLE001 - it is raised in the thread that asked for the run
            crew.stop()
            results.put(error)

    threads = [threading.Thread(target=work, name=f"mergecore-{index}") for index in range(workers)]
    for thread in threads:
        thread.start()
    try:
        for _ in steps:
            result = results.get()
            if isinstance(result, BaseException):
                raise result
            yield result
    finally:
        crew.stop()
        for thread in threads:
            thread.join()


class _Stopped(Exception):
    """The run is over; nobody waits for this work."""


class _Alone:
    """The crew of a single worker."""

    def each(self, count: int, work: Callable[[int], None]) -> None:
        for index in range(count):
            work(index)


class _Pass:
    """One pass over the blocks of a tensor, open to helpers."""

    def __init__(self, total: int, work: Callable[[int], None]) -> None:
        self.total = total
        self.work = work
        self.indices = count()
        self.exhausted = False
        self.helpers = 0
        self.error: BaseException | None = None


class _Crew:
    """Workers that share steps, and the blocks of steps."""

    def __init__(self, steps: int) -> None:
        self._changed = threading.Condition()
        self._open: list[_Pass] = []
        self._unfinished = steps
        self._stopped = False

    def next_step(self, remaining: Iterator[Step]) -> Step | None:
        with self._changed:
            return None if self._stopped else next(remaining, None)

    def step_done(self) -> None:
        with self._changed:
            self._unfinished -= 1
            self._changed.notify_all()

    def stop(self) -> None:
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def each(self, count: int, work: Callable[[int], None]) -> None:
        if count <= 1:
            return _Alone().each(count, work)
        shared = _Pass(count, work)
        with self._changed:
            self._open.append(shared)
            self._changed.notify_all()
        try:
            self._work_on(shared)
        finally:
            with self._changed:
                self._open.remove(shared)
                self._changed.wait_for(lambda: shared.helpers == 0)
        if shared.error is not None:
            raise shared.error
        return None

    def help_others(self) -> None:
        """Work on open passes until every step is done."""
        while (shared := self._join_pass()) is not None:
            try:
                self._work_on(shared)
            except BaseException as error:  # noqa: BLE001 - it is raised in the thread that owns the pass
                shared.error = error
            finally:
                with self._changed:
                    shared.helpers -= 1
                    self._changed.notify_all()

    def _join_pass(self) -> _Pass | None:
        with self._changed:
            self._changed.wait_for(lambda: self._wanting() or not self._unfinished or self._stopped)
            wanting = self._wanting()
            if self._stopped or not wanting:
                return None
            wanting[0].helpers += 1
            return wanting[0]

    def _wanting(self) -> list[_Pass]:
        return [shared for shared in self._open if not shared.exhausted]

    def _work_on(self, shared: _Pass) -> None:
        while shared.error is None:
            if self._stopped:
                raise _Stopped
            index = next(shared.indices)
            if index >= shared.total:
                shared.exhausted = True
                return
            shared.work(index)


@hookimpl
def mergecore_executors() -> Iterator[Executor]:
    yield Executor(name="threads", run=run_threads)
