"""Execution: who carries out the steps of a plan, how, and what comes back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Generic, Literal, Protocol, TypeAlias

from mergecore.types.events import Display
from mergecore.types.params import NO_PARAMS, P
from mergecore.types.steps import Step


class Crew(Protocol):
    """The workers of an executor, lent to one pass over the blocks of one tensor."""

    def each(self, count: int, work: Callable[[int], None]) -> None:
        """Call `work` once with every index below `count`, in any order, on any worker; wait for all."""


@dataclass(frozen=True)
class StepResult:
    """A finished step: the digest of the bytes written for it."""

    name: str
    digest: str
    nbytes: int
    nonfinite: int = 0


RunStep: TypeAlias = Callable[[Step, Crew], StepResult]


@dataclass(frozen=True, kw_only=True)
class Executor(Generic[P]):
    """Where the steps of a plan run.

    `run` gets the steps, what carries out one of them, the number of workers and its parameters; it yields
    results in any order and stops at the first exception.
    """

    name: str
    run: Callable[[Sequence[Step], RunStep, int, P], Iterator[StepResult]]
    params: type[P] = NO_PARAMS


Mode: TypeAlias = Literal["new", "resume", "restart"]


@dataclass(frozen=True)
class RunOptions:
    """How a plan is executed; nothing here changes the bytes of the result."""

    threads: int | None = None
    """Workers; None for as many as there are processors."""
    max_memory: int | None = None
    """Bytes that blocks may take; None for no bound but the number of workers."""
    device: str = "cpu"
    executor: str | None = None
    """Where the steps run, by name; None for what the plan says, whose parameters count for that one only."""
    mode: Mode = "new"
    overwrite: bool = False
    allow_nonfinite: bool = False
    recheck: bool = False
    display: Display = field(default_factory=lambda: Display(style="none"))
