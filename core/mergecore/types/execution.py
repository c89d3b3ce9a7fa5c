"""Execution: who carries out the steps of a plan, how, and what comes back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, Literal, Protocol, TypeAlias

from mergecore.types.events import Display
from mergecore.types.params import NO_PARAMS, P
from mergecore.types.steps import Step


class Workers(Protocol):
    """The workers of an executor, lent to one pass over the blocks of one tensor."""

    def for_each(self, count: int, work: Callable[[int], None]) -> None:
        """Call `work` once with every index below `count`, in any order, on any worker; wait for all."""


class Alone:
    """A single worker: one index after the other, in the thread that asks."""

    def for_each(self, count: int, work: Callable[[int], None]) -> None:
        """Call `work` with every index below `count`."""
        for index in range(count):
            work(index)


class Bytes(Protocol):
    """Takes the bytes of tensors in any order, from any thread."""

    def write(self, name: str, start: int, data: memoryview) -> None:
        """Keep `data`, the bytes of tensor `name` from byte `start` on."""

    def read(self, name: str, start: int, into: memoryview) -> None:
        """Fill `into` with bytes of tensor `name` that were written before, from byte `start` on."""


class Reopened(Protocol):
    """A storage as another process opens it; can be pickled."""

    def open(self) -> AbstractContextManager[Bytes]:
        """The same places."""


class Storage(Bytes, Protocol):
    """Where the output of a plan is made: a folder, or memory."""

    @property
    def done(self) -> Mapping[str, str]:
        """Digests of the tensors that are there already, by name."""

    def finish(self, result: StepResult) -> None:
        """Take note that all tensors of a step are written.  Safe from any thread.

        Raises:
            PluginError: E402 when bytes are missing.
        """

    def elsewhere(self) -> Reopened:
        """The same places, for other processes to write in.

        Raises:
            PluginError: E605 when other processes do not reach it.
        """


@dataclass(frozen=True)
class Written:
    """A finished tensor: the digest of the bytes written for it, and how many they are."""

    name: str
    """The name of the tensor."""
    digest: str
    """The digest of its bytes."""
    nbytes: int
    """Bytes written."""
    nonfinite: int = 0
    """How many of its numbers are infinite or NaN."""


@dataclass(frozen=True)
class StepResult:
    """A finished step, and the tensors that it has made, in the order in which the step names them."""

    name: str
    """The name of the step."""
    outputs: tuple[Written, ...]
    """Its tensors."""


RunStep: TypeAlias = Callable[[Step, Workers], StepResult]


class Job(Protocol):
    """Steps that are to be carried out.  It can be pickled, and opened in any process that sees the same files."""

    @property
    def steps(self) -> Sequence[Step]:
        """What is to be done, in the order in which it is best begun."""

    @property
    def workers(self) -> int:
        """How many steps may be worked on at once, within the memory that the user allows."""

    def open(self) -> AbstractContextManager[RunStep]:
        """What carries out a step, with the files it needs open.

        Raises:
            MergecoreError: PluginError E605 when this process does not have what the steps need.
        """


@contextmanager
def _alone(count: int) -> Iterator[Workers]:
    yield Alone()


@dataclass(frozen=True, kw_only=True)
class Executor(Generic[P]):
    """Where the steps of a plan run.

    name: what a config and `--executor` call it.
    params: its parameters, which stand beside its name in a config.
    run: carries out all steps of a job with its parameters; yields results in any order, and raises the first error.
    workers: lends so many workers, in this process, to the passes that methods make before the first step.
    memory: bytes that each worker takes beside its blocks, such as for a process of its own.
    summary: what it does, in one line of at most 59 characters, for lists.
    """

    name: str
    run: Callable[[Job, P], Iterator[StepResult]]
    workers: Callable[[int], AbstractContextManager[Workers]] = _alone
    memory: int = 0
    params: type[P] = NO_PARAMS
    summary: str = ""


Mode: TypeAlias = Literal["new", "resume", "restart"]


@dataclass(frozen=True)
class RunOptions:
    """How a plan is executed; nothing here changes the bytes of the result."""

    threads: int | None = None
    """Workers; None for as many as there are processors."""
    max_memory: int | None = None
    """Bytes that blocks may take; None for no bound but the number of workers."""
    device: str = "cpu"
    """Where the arithmetic is done: `cpu`, `cuda`, `cuda:1`, or `auto`."""
    executor: str | None = None
    """Where the steps run, by name; None for what the plan says, whose parameters count for that one only."""
    mode: Mode = "new"
    """Whether to begin anew where nothing was begun, to go on with what was begun, or to throw that away."""
    overwrite: bool = False
    """Replace an output that exists."""
    allow_nonfinite: bool = False
    """Accept numbers that are infinite or NaN."""
    recheck: bool = False
    """Read again what an earlier run wrote."""
    intermediate: Path | None = None
    """Where the intermediate results of several documents lie; None for a folder beside the output."""
    remove_intermediate: bool = False
    """Remove them once the output is complete."""
    display: Display = field(default_factory=lambda: Display(style="none"))
    """How the run is shown."""
