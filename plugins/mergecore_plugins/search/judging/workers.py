"""Models of a search scored in several processes; read `InProcesses`."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from functools import cache
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import cast

from mergecore import MergeError
from mergecore.files import parse_json
from mergecore.types import Json
from mergecore_plugins.search.driving import Task
from mergecore_plugins.search.journal import Trial
from mergecore_plugins.search.judging.bench import Asked, Bench, bench_of, failed, set_threads
from mergecore_plugins.search.judging.candidates import Reference
from mergecore_plugins.search.space.reading import read_search


@dataclass
class InProcesses:
    """The same as a `Bench` in several processes, each of which opens the models and keeps what it has merged."""

    asked: Asked
    references: tuple[tuple[str, str, str], ...]
    jobs: int
    _pool: list[ProcessPoolExecutor] = field(default_factory=list)
    _others: list[BaseProcess] = field(default_factory=list)

    def __call__(self, tasks: Sequence[Task]) -> Iterator[Trial]:
        """The trials of tasks, in their order.

        A process that dies takes those of the others with it, so what was not scored is tried again one by one.  A
        point that ends a process of its own has failed.

        Raises:
            MergeError: E408 when a process has died over a model that points are measured by.
        """
        done = 0
        try:
            for one in self._begun(tasks, self.jobs):
                yield one.result()
                done += 1
        except BrokenProcessPool:
            for task in tasks[done:]:
                yield self._alone(task)

    def _alone(self, task: Task) -> Trial:
        """The trial of a task that no other runs beside."""
        self.close()
        begun = time.monotonic()
        try:
            (one,) = self._begun([task], 1)
            found = one.result()
        except BrokenProcessPool as error:
            self.close()
            what = "a process that scores models died"
            if task.point is None:
                hint = "use fewer --jobs, or free some memory; then --resume"
                raise MergeError("E408", what, hint=hint) from error
            why = f"{what} over this point twice, once with no other beside it"
            return failed(task, why, time.monotonic() - begun)
        self.close()  # the next task gets as many as there were
        return found

    def _begun(self, tasks: Sequence[Task], jobs: int) -> list[Future[Trial]]:
        """The tasks, begun in processes that are there, or made now."""
        if not self._pool:
            self._others = multiprocessing.active_children()
            spawn = multiprocessing.get_context("spawn")
            self._pool.append(ProcessPoolExecutor(jobs, mp_context=spawn, initializer=_begin))
        return [self._pool[0].submit(_score_here, self.asked, self.references, task) for task in tasks]

    def close(self) -> None:
        """End the processes at once: when all is done they wait, and else nobody wants what they are doing."""
        while self._pool:
            for process in multiprocessing.active_children():
                if process not in self._others:
                    process.kill()
            self._pool.pop().shutdown(cancel_futures=True)


def _begin() -> None:
    """What a process does first: it leaves Ctrl-C to its parent, and ends with it, even when that is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)  # nobody is left to hear of it


def _score_here(asked: Asked, references: tuple[tuple[str, str, str], ...], task: Task) -> Trial:
    return _bench_here(asked, references).score(task)


@cache
def _bench_here(asked: Asked, references: tuple[tuple[str, str, str], ...]) -> Bench:
    """The bench of this process, made once."""
    set_threads(asked.threads)
    instead = cast("dict[str, Json]", parse_json(asked.instead, code="E104"))
    search = read_search(Path(asked.config), instead)
    return bench_of(
        asked,
        search,
        [
            Reference(kind, name, cast("dict[str, Json]", parse_json(config, code="E104")))
            for kind, name, config in references
        ],
    )


def portable(references: Sequence[Reference]) -> tuple[tuple[str, str, str], ...]:
    """References as other processes get them."""
    return tuple((one.kind, one.name, json.dumps(one.config)) for one in references)
