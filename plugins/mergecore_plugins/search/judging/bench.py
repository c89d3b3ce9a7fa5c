"""Where models of a search are scored: in this process, or in several; read `Bench`, then `InProcesses`."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Literal, cast

from mergecore import MergecoreError, MergeError, PlanOptions, Registry
from mergecore.files import parse_json
from mergecore.types import Json
from mergecore_plugins.evaluation.models import Place, PlannedModel
from mergecore_plugins.search.driving import Task
from mergecore_plugins.search.journal import Trial
from mergecore_plugins.search.judging.candidates import Candidate, Reference, Workshop, opening_once
from mergecore_plugins.search.judging.objectives import asked_for, judge_of
from mergecore_plugins.search.judging.scoring import Judge
from mergecore_plugins.search.space.reading import Search, read_search


@dataclass(frozen=True)
class Asked:
    """What a search is asked to do, as every process gets it.

    instead: JSON of what the command line says in place of keys of `search`.  threads: of merges and evaluations.
    """

    config: str
    instead: str = "{}"
    disabled: tuple[str, ...] = ()
    offline: bool = False
    device: str = "cpu"
    dtype: str = "auto"
    threads: int | None = None


@dataclass
class Bench:
    """What scores models in this process."""

    search: Search
    workshop: Workshop
    judge: Judge
    references: Sequence[Reference] = ()

    def score(self, task: Task) -> Trial:
        """The trial of a task.  What is wrong with a point makes it fail; with a reference, it is raised."""
        if task.point is None:
            one = self.references[task.number]
            return self._scored(task, self.workshop.reference(one), one.kind, one.name, time.monotonic())
        begun = time.monotonic()
        try:
            model = self.workshop.candidate(self.workshop.plan(task.point), f"point {task.number}")
            return self._scored(task, model, "point", model.name, begun)
        except MergecoreError as error:
            seconds = time.monotonic() - begun
            return _failed(task, str(error), seconds)

    def _scored(self, task: Task, model: PlannedModel, kind: str, name: str, begun: float) -> Trial:
        if isinstance(model, Candidate):
            planning = time.monotonic() - begun
        scored = self.judge.score(model, task.best)
        seconds = time.monotonic() - begun
        merging, changed = 0.0, 0
        if isinstance(model, Candidate):
            merging, changed = planning + model.merging, model.changed
        if not isinstance(model, Candidate):
            model.release()
        return Trial(
            number=task.number,
            kind=cast("Literal['point', 'average', 'parent', 'base']", kind),
            name=name,
            state="pruned" if scored.pruned else "complete",
            point=dict(task.point or {}),
            values=scored.values,
            scores=scored.scores,
            identity=model.identity,
            seconds=round(seconds, 3),
            merging=round(merging, 3),
            changed=changed,
        )

    def __call__(self, tasks: Sequence[Task]) -> Iterator[Trial]:
        """The trials of tasks, one after the other."""
        yield from map(self.score, tasks)


def _failed(task: Task, why: str, seconds: float) -> Trial:
    return Trial(
        number=task.number,
        kind="point",
        name=f"point {task.number}",
        state="failed",
        point=dict(task.point or {}),
        error=why,
        seconds=round(seconds, 3),
    )


def bench_of(asked: Asked, search: Search, references: Sequence[Reference] = ()) -> Bench:
    """What scores models as it is asked.

    Raises:
        MergecoreError: what is wrong with the evaluators.
    """
    workshop = workshop_of(asked, search)
    evaluators = asked_for(search.section.entries, search.written, workshop.place.registry)
    return Bench(search, workshop, judge_of(search.section.objectives, evaluators), references)


def workshop_of(asked: Asked, search: Search) -> Workshop:
    """What makes the models, as it is asked."""
    registry = opening_once(Registry.discover(asked.disabled))
    place = Place(registry, device=asked.device, dtype=asked.dtype, offline=asked.offline)
    return Workshop(search.space, place, PlanOptions(offline=asked.offline), asked.threads)


# ---- several processes -------------------------------------------------------------------------------------


@dataclass
class InProcesses:
    """The same in several processes, each of which opens the models and keeps what it has merged."""

    asked: Asked
    references: tuple[tuple[str, str, str], ...]
    jobs: int
    _pool: list[ProcessPoolExecutor] = field(default_factory=list)

    def __call__(self, tasks: Sequence[Task]) -> Iterator[Trial]:
        """The trials of tasks, in their order."""
        if not self._pool:
            spawn = multiprocessing.get_context("spawn")
            self._pool.append(ProcessPoolExecutor(self.jobs, mp_context=spawn))
        begun = [self._pool[0].submit(_score_here, self.asked, self.references, task) for task in tasks]
        try:
            for one in begun:
                yield one.result()
        except BrokenProcessPool as error:
            hint = "use fewer --jobs, or free some memory; then --resume"
            raise MergeError("E408", "a process that scores models died", hint=hint) from error

    def close(self) -> None:
        """End the processes."""
        for one in self._pool:
            one.shutdown(cancel_futures=True)


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
    import json

    return tuple((one.kind, one.name, json.dumps(one.config)) for one in references)


def set_threads(threads: int | None) -> None:
    """Let operations of torch use so many threads: sums depend on it."""
    import torch

    if threads is not None:
        torch.set_num_threads(threads)
