"""What a merge tells its reporters, in the order it happens; plain values that can be pickled.

Each event says how this run wants to be shown, so a reporter needs no state of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias


@dataclass(frozen=True)
class Display:
    """How a run wants to be shown: which reporter is used, how much, and whether to a person at a terminal."""

    style: Literal["console", "jsonl", "none"] = "console"
    """The reporter: `console` for people, `jsonl` for programs, or none."""
    verbosity: int = 0
    """Above 0 more is shown, below 0 less."""
    terminal: bool = False
    """Whether a person reads it at a terminal."""


@dataclass(frozen=True)
class PlanReady:
    """Everything is checked and decided; no weight has been read.

    document: of several documents, the name of this one, and `number` of `count`, from 1; 0 of 0 for one alone.
    doing: what is to be done, such as "merging 2 adapters"; empty where models are merged.
    """

    display: Display
    """How this run wants to be shown."""
    models: tuple[str, ...]
    """The models by name."""
    tensors: int
    """How many tensors are written."""
    nbytes: int
    """Bytes of the weights."""
    peak_memory: int
    """Bytes that the merge takes at most, as estimated."""
    warnings: tuple[str, ...]
    """What the user should know before it begins."""
    document: str = ""
    number: int = 0
    count: int = 0
    doing: str = ""


@dataclass(frozen=True)
class Fetching:
    """A file of weights is being downloaded; it is there when `done_bytes` is `total_bytes`.

    `all_bytes` are those of every file that has to come, `all_done_bytes` how many of them are here.
    """

    display: Display
    """How this run wants to be shown."""
    model: str
    """The model that it belongs to."""
    file: str
    """Its name."""
    done_bytes: int
    """Bytes that are here."""
    total_bytes: int
    """Its size."""
    all_done_bytes: int
    """Bytes that are here of all files."""
    all_bytes: int
    """Bytes of all files."""
    seconds: float
    """Since the download began."""
    previous_seconds: float
    """The `seconds` of the event before this one."""


@dataclass(frozen=True)
class StepDone:
    """One more tensor is written.  `previous_seconds` is the `seconds` of the event before this one."""

    display: Display
    """How this run wants to be shown."""
    name: str
    """The name of the tensor."""
    done: int
    """Tensors that are written."""
    total: int
    """Tensors of the plan."""
    done_bytes: int
    """Bytes that are written."""
    total_bytes: int
    """Bytes of the plan."""
    seconds: float
    """Since the merge began."""
    previous_seconds: float


@dataclass(frozen=True)
class ModelSealed:
    """The output folder is complete under its name; `made` by this run, unless it was there already.

    compared: what was found to be the same where it was there already.
    """

    display: Display
    """How this run wants to be shown."""
    path: str
    """The folder."""
    nbytes: int
    """Bytes of the weights."""
    seconds: float
    """How long it took."""
    made: bool = True
    compared: str = ""


@dataclass(frozen=True)
class Warned:
    """Something the user should know that does not stop the merge."""

    display: Display
    """How this run wants to be shown."""
    text: str
    """What to know, in a sentence."""


Event: TypeAlias = PlanReady | Fetching | StepDone | ModelSealed | Warned


Progress: TypeAlias = Callable[[Event], object]
"""Hears what happens while a plan is carried out."""
