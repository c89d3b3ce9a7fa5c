"""The executor `logged`: one step after the other, each in a line of a file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from mergecore import Executor, Field, Params, hookimpl
from mergecore.types import RunStep, Step, StepResult


class LoggedParams(Params):
    file: str = Field(description="where the lines go")
    backwards: bool = Field(default=False, description="the blocks of a tensor from the last to the first")


class Alone:
    def __init__(self, backwards: bool) -> None:
        self.backwards = backwards

    def each(self, count: int, work: Callable[[int], None]) -> None:
        for index in reversed(range(count)) if self.backwards else range(count):
            work(index)


def run(steps: Sequence[Step], run_step: RunStep, workers: int, params: LoggedParams) -> Iterator[StepResult]:
    with Path(params.file).open("a", encoding="utf8") as log:
        for step in steps:
            log.write(f"{step.name}\n")
            yield run_step(step, Alone(params.backwards))


@hookimpl
def mergecore_executors() -> Iterator[Executor[LoggedParams]]:
    yield Executor(name="logged", run=run, params=LoggedParams)
