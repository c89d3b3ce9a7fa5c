"""Samplers: which settings are tried next?  Read `Sampler`, then `Sampling`, what it begins."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, Literal, Protocol, TypeAlias

from mergecore.types.params import NO_PARAMS, P


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A number between two ends, both of which it may be.

    name: what a point calls it.  low: the smaller end.  high: the larger one.
    log: its logarithm is what is spread evenly.  step: it is `low` plus a multiple of this; 1 or more for `whole`.
    whole: it is an integer.
    """

    name: str
    low: float
    high: float
    log: bool = False
    step: float | None = None
    whole: bool = False


@dataclass(frozen=True, kw_only=True)
class Options:
    """One of several things that have no order; a point has the index of one.

    name: what a point calls it.  count: how many things there are.
    """

    name: str
    count: int


Dimension: TypeAlias = Interval | Options

Point: TypeAlias = "Mapping[str, float]"
"""A value for each dimension by its name; whole ones and indices are of type `int`."""


@dataclass(frozen=True, kw_only=True)
class Tried:
    """What came of a point.

    number: which point it was, as it was asked for.  point: the values that were tried.
    values: one for each objective, of which more is better; empty where it failed.
    state: pruned where the evaluation was ended early, `values` then come of a part of the data.
    """

    number: int
    point: Point
    values: tuple[float, ...]
    state: Literal["complete", "pruned", "failed"] = "complete"


@dataclass(frozen=True, kw_only=True)
class SearchRequest:
    """What is searched.

    dimensions: what a point has a value for.  seed: what random choices depend on.
    objectives: how many numbers say how good a point is.  trials: how many points are asked for, as far as that is
    known.  batch: how many are asked for before the first of them is told.
    """

    dimensions: tuple[Dimension, ...]
    objectives: int
    seed: int
    trials: int | None
    batch: int


class Sampling(Protocol):
    """A search under way.  What it asks for depends on the request and on what it was told, and on nothing else.

    A search that was interrupted is gone through again from the beginning: the same questions and answers in the
    same order have to lead to the same points.
    """

    def ask(self, number: int) -> Point | None:
        """The point to try as number `number`, which count from 0 on; None when there is nothing left to try."""

    def tell(self, tried: Tried) -> None:
        """Take note of what came of a point, in the order of their numbers; some were asked for by nobody."""


@dataclass(frozen=True, kw_only=True)
class Sampler(Generic[P]):
    """A way to choose what is tried next.

    name: what a config calls it.
    params: its parameters, which stand beside its name in a config.
    begin: begins a search; raises a `MergecoreError` where it cannot search what is asked.
    several: whether it takes more than one objective.
    summary: how it chooses, in one line of at most 59 characters, for lists.
    """

    name: str
    begin: Callable[[SearchRequest, P], Sampling]
    params: type[P] = NO_PARAMS
    several: bool = False
    summary: str = ""
