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
    verbosity: int = 0
    terminal: bool = False


@dataclass(frozen=True)
class PlanReady:
    """Everything is checked and decided; no weight has been read.

    document: of several documents, the name of this one, and `number` of `count`, from 1; 0 of 0 for one alone.
    doing: what is to be done, such as "merging 2 adapters"; empty where models are merged.
    """

    display: Display
    models: tuple[str, ...]
    tensors: int
    nbytes: int
    peak_memory: int
    warnings: tuple[str, ...]
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
    model: str
    file: str
    done_bytes: int
    total_bytes: int
    all_done_bytes: int
    all_bytes: int
    seconds: float
    previous_seconds: float


@dataclass(frozen=True)
class StepDone:
    """One more tensor is written.  `previous_seconds` is the `seconds` of the event before this one."""

    display: Display
    name: str
    done: int
    total: int
    done_bytes: int
    total_bytes: int
    seconds: float
    previous_seconds: float


@dataclass(frozen=True)
class ModelSealed:
    """The output folder is complete under its name; `made` by this run, unless it was there already.

    compared: what was found to be the same where it was there already.
    """

    display: Display
    path: str
    nbytes: int
    seconds: float
    made: bool = True
    compared: str = ""


@dataclass(frozen=True)
class Warned:
    """Something the user should know that does not stop the merge."""

    display: Display
    text: str


Event: TypeAlias = PlanReady | Fetching | StepDone | ModelSealed | Warned


Progress: TypeAlias = Callable[[Event], object]
"""Hears what happens while a plan is carried out."""
