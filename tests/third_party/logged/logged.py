"""The executor `logged`: one step after the other, each in a line of a file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from mergecore import Executor, Field, Params, hookimpl
from mergecore.types import Alone, Job, StepResult


class LoggedParams(Params):
    file: str = Field(description="where the lines go")
    backwards: bool = Field(default=False, description="the blocks of a tensor from the last to the first")


class Backwards:
    def for_each(self, count: int, work: Callable[[int], None]) -> None:
        for index in reversed(range(count)):
            work(index)


def run(job: Job, params: LoggedParams) -> Iterator[StepResult]:
    with job.open() as run_step, Path(params.file).open("a", encoding="utf8") as log:
        for step in job.steps:
            log.write(f"{step.name}\n")
            yield run_step(step, Backwards() if params.backwards else Alone())


@hookimpl
def mergecore_executors() -> Iterator[Executor[LoggedParams]]:
    yield Executor(name="logged", run=run, params=LoggedParams)
