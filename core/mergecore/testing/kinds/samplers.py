"""Checks of samplers; read `check_sampler`, then `SAMPLER`."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mergecore.errors import MergecoreError
from mergecore.testing.findings import Property, demand, hold
from mergecore.types import Dimension, Interval, Json, Options, Point, Sampler, SearchRequest, Tried
from mergecore.types.params import Params

TRIALS, BATCH = 24, 4
INTERVALS: tuple[Dimension, ...] = (
    Interval(name="weight", low=0.1, high=0.9),
    Interval(name="rate", low=0.001, high=1.0, log=True),
    Interval(name="count", low=1, high=8, whole=True),
    Interval(name="grid", low=0.0, high=1.0, step=0.25),
)
EVERYTHING: tuple[Dimension, ...] = (*INTERVALS, Options(name="method", count=3))


def check_sampler(
    sampler: Sampler[Any],
    *,
    params: Params | Mapping[str, Json] | None = None,
    choices: bool = True,
    without: Collection[str] = (),
) -> None:
    """Check that a sampler asks for points that can be tried, and for the same ones again.

    params: its parameters; None for the defaults.  choices: whether it takes dimensions without an order.

    Raises:
        AssertionError: what does not hold, for which case and what to do.
    """
    hold(f"sampler '{sampler.name}'", SAMPLER, SamplerCase.of(sampler, params, choices), without)


@dataclass(frozen=True)
class SamplerCase:
    """A sampler with its parameters, and what it is to search."""

    sampler: Sampler[Any]
    params: Params
    dimensions: tuple[Dimension, ...]

    @classmethod
    def of(
        cls,
        sampler: Sampler[Any],
        params: Params | Mapping[str, Json] | None = None,
        choices: bool | None = None,
    ) -> SamplerCase:
        """The case of a sampler; `choices`: None where it is to be found out whether it takes them."""
        made = params if isinstance(params, Params) else sampler.params.model_validate(dict(params or {}))
        if choices is None:
            choices = _takes(sampler, made)
        return cls(sampler, made, EVERYTHING if choices else INTERVALS)

    def points(self, seed: int = 1, objectives: int = 1, told: int = TRIALS, worst: int = -1) -> list[Point]:
        """What it asks for, batch by batch; `told`: how many are told rightly, `worst`: which one is said to fail."""
        request = SearchRequest(
            dimensions=self.dimensions, objectives=objectives, seed=seed, trials=TRIALS, batch=BATCH
        )
        sampling = self.sampler.begin(request, self.params)
        points: list[Point] = []
        while len(points) < TRIALS:
            numbers = range(len(points), len(points) + BATCH)
            asked = [(number, sampling.ask(number)) for number in numbers]
            for number, point in asked:
                if point is None:
                    return points
                points.append(dict(point))
                good = number < told and number != worst
                values = (goodness(point),) * objectives if good else ()
                sampling.tell(
                    Tried(number=number, point=point, values=values, state="complete" if good else "failed")
                )
        return points


def _takes(sampler: Sampler[Any], params: Params) -> bool:
    request = SearchRequest(dimensions=EVERYTHING, objectives=1, seed=0, trials=TRIALS, batch=BATCH)
    try:
        sampler.begin(request, params)
    except MergecoreError:  # it says itself what it cannot search
        return False
    return True


def goodness(point: Point) -> float:
    """How good a point is to the checks: best at weight 0.3, rate 0.03, count 4, grid 0.5."""
    off = (
        point["weight"] - 0.3,
        math.log10(point["rate"] / 0.03),
        (point["count"] - 4) / 8,
        point["grid"] - 0.5,
    )
    return -sum(one * one for one in off)


def _asks_within(case: SamplerCase) -> None:
    points = case.points()
    demand(bool(points), "it asks for no point; `ask` returns a point, or None once there are none left")
    for point in points:
        demand(
            list(point) == [one.name for one in case.dimensions]
            or set(point) == {one.name for one in case.dimensions},
            f"a point has {', '.join(point)}; it has a value for each dimension, by its name",
        )
        for one in case.dimensions:
            _check(one, point[one.name])


def _check(one: Dimension, value: float) -> None:
    if isinstance(one, Options):
        demand(
            type(value) is int and 0 <= value < one.count,
            f"'{one.name}' is {value!r}; the index of one of {one.count} options is expected",
        )
        return
    demand(
        one.low - 1e-9 <= value <= one.high + 1e-9,
        f"'{one.name}' is {value!r}; keep between {one.low:g} and {one.high:g}",
    )
    demand(not one.whole or type(value) is int, f"'{one.name}' is {value!r}; a whole number is expected")
    if one.step is not None:
        steps = (value - one.low) / one.step
        demand(abs(steps - round(steps)) < 1e-6, f"'{one.name}' is {value!r}, which is not on its steps")


def _asks_the_same_again(case: SamplerCase) -> None:
    demand(
        case.points() == case.points(),
        "asked again with the same seed and the same answers, it asks for other points; draw from the seed of the "
        "request only",
    )


def _takes_failures(case: SamplerCase) -> None:
    points = case.points(worst=2)
    demand(len(points) == len(case.points()), "a point that failed ends the search")


def _takes_several(case: SamplerCase) -> None:
    if case.sampler.several:
        demand(
            bool(case.points(objectives=2)), "it says that it takes several objectives and asks for no point"
        )


SAMPLER: Sequence[Property[SamplerCase]] = (
    Property("points", "points have a value for each dimension, within its ends", _asks_within),
    Property("same", "the same answers lead to the same points", _asks_the_same_again),
    Property("failures", "a point that fails ends nothing", _takes_failures),
    Property("several", "several objectives are taken where it says so", _takes_several),
)
"""What every sampler keeps."""
