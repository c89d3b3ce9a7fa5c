"""{{ cookiecutter.name }}: one tensor after the other; a line in a file says how long each took."""

from collections.abc import Iterator
from pathlib import Path
from time import perf_counter

from mergecore import Executor, Field, Params, hookimpl
from mergecore.types import Alone, Job, StepResult


class TimedParams(Params):
    log: str = Field(default="", description="a file for the seconds of each tensor")


def run(job: Job, params: TimedParams) -> Iterator[StepResult]:
    with job.open() as run_step:
        for step in job.steps:
            start = perf_counter()
            result = run_step(step, Alone())
            if params.log:
                with Path(params.log).open("a", encoding="utf8") as log:
                    log.write(f"{perf_counter() - start:.3f} {step.name}\n")
            yield result


@hookimpl
def mergecore_executors() -> Iterator[Executor[TimedParams]]:
    yield Executor(name="{{ cookiecutter.name }}", run=run, params=TimedParams)
