"""The search itself: batches of points, each asked for, scored and told; read `Study.run`.

A batch is asked for before the first of it is told, and what happens depends on the batches before it alone.  So a
search that was killed is gone through again from its history, and comes to the same points with any number of jobs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from mergecore import MergeError, PluginError
from mergecore.types import Dimension, Point, Sampling, Score
from mergecore_plugins.search.journal import Journal, Trial
from mergecore_plugins.search.space.ranges import tidied


@dataclass(frozen=True)
class Task:
    """A point to score, or the index of a model that points are measured by.

    best: the score that it should reach, or its evaluation is ended early.
    """

    number: int
    point: Point | None
    best: Score | None = None


class Scoring(Protocol):
    """Scores models, perhaps several at once."""

    def __call__(self, tasks: Sequence[Task]) -> Iterator[Trial]:
        """The trials of the tasks, in their order."""


Told = Callable[[Trial], object]


@dataclass
class Study:
    """A search under way.

    started: points that are scored before the sampler is asked.  prune: whether hopeless evaluations are ended.
    trials, seconds: how far it goes; None for no bound.
    """

    dimensions: Sequence[Dimension]
    sampling: Sampling
    journal: Journal
    scoring: Scoring
    references: Sequence[str]
    """The kinds of the models that points are measured by."""
    batch: int
    trials: int | None
    seconds: float | None = None
    start: Sequence[Point] = ()
    prune: bool = True
    told: Told = lambda trial: None
    _done: list[Trial] = field(default_factory=list)
    _known: dict[str, Trial] = field(default_factory=dict)
    """Points by their values, which need no second look."""

    def run(self) -> list[Trial]:
        """All trials, those of references first, then points by their numbers.

        Raises:
            MergeError: E409 when no point could be scored.
        """
        begun = time.monotonic()
        before = sum(one.seconds for one in self.journal.trials.values())
        self._score([Task(i, None) for i in range(len(self.references))])
        number = 0
        while self.trials is None or number < self.trials:
            if self.seconds is not None and before + time.monotonic() - begun > self.seconds:
                break
            tasks = list(self._asked(number))
            if not tasks:
                break
            for one in self._score(tasks):
                self.sampling.tell(one.tried())
            number += len(tasks)
        points = [one for one in self._done if one.kind == "point"]
        if points and all(one.state == "failed" for one in points):
            failed = points[0].error
            raise MergeError(
                "E409", f"none of {len(points)} points could be scored; the first: {failed}", hint=_HINT
            )
        return self._done

    def _asked(self, number: int) -> Iterator[Task]:
        """The next batch."""
        count = self.batch if self.trials is None else min(self.batch, self.trials - number)
        best = self._best() if self.prune else None
        for each in range(number, number + count):
            if each < len(self.start):
                point: Point | None = self.start[each]
            else:
                point = self.sampling.ask(each)
            if point is None:
                return
            yield Task(each, tidied(self.dimensions, point), best)

    def _best(self) -> Score | None:
        """The score of the best model so far, where there is one number and one score for it."""
        found = [one for one in self._done if one.complete and len(one.values) == len(one.scores) == 1]
        return max(found, key=lambda one: one.values).scores[0] if found else None

    def _score(self, tasks: Sequence[Task]) -> list[Trial]:
        """The trials of the tasks: those of the history, and what is scored now."""
        found: dict[int, Trial] = {}
        todo = []
        for task in tasks:
            kind = "point" if task.point is not None else self.references[task.number]
            known = self.journal.trials.get((kind, task.number))
            same = self._known.get(_key(task.point)) if task.point is not None else None
            if known is not None:
                _check_same(task, known)
                found[task.number] = known
            elif same is not None:
                found[task.number] = replace(same, number=task.number, seconds=0.0, merging=0.0, changed=0)
                self.journal.add(found[task.number])
            else:
                todo.append(task)
        for task, one in zip(todo, self.scoring(todo) if todo else (), strict=True):
            self.journal.add(one)
            found[task.number] = one
        done = [found[task.number] for task in tasks]
        for one in done:
            self._known.setdefault(_key(one.point), one)
            self.told(one)
        self._done += done
        return done


def _check_same(task: Task, known: Trial) -> None:
    """Raise E605 where the history has another point under this number."""
    if task.point is not None and dict(task.point) != dict(known.point):
        what = f"point {task.number} of the history is not the one that the sampler asks for now"
        hint = "its versions may differ; --restart begins anew"
        raise PluginError("E605", what, hint=hint)


def _key(point: Point) -> str:
    return repr(sorted(point.items()))


_HINT = "look at the errors in history.jsonl; the ranges may leave nothing that can be merged"
