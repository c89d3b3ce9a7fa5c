"""Where models of a search are scored in a process; read `Bench`.  `workers` has several of them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, cast

from mergecore import MergecoreError, PlanOptions, Registry
from mergecore_plugins.evaluation.models import Place, PlannedModel
from mergecore_plugins.search.driving import Task
from mergecore_plugins.search.journal import Trial
from mergecore_plugins.search.judging.candidates import Candidate, Reference, Workshop, opening_once
from mergecore_plugins.search.judging.objectives import asked_for, judge_of
from mergecore_plugins.search.judging.scoring import Judge
from mergecore_plugins.search.space.reading import Search


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
            return failed(task, str(error), seconds)

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


def failed(task: Task, why: str, seconds: float) -> Trial:
    """The trial of a point that has no score."""
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


def set_threads(threads: int | None) -> None:
    """Let operations of torch use so many threads: sums depend on it."""
    import torch

    if threads is not None:
        torch.set_num_threads(threads)
