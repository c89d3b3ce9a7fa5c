"""The samplers of optuna: random, grid, tpe, cma and nsga2; read `_Study`, which asks and tells.

optuna is imported when a search begins.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from mergecore import ConfigError, Field, Params, hookimpl
from mergecore.types import Dimension, Interval, Options, Point, Sampler, SearchRequest, Tried

INSTALL = "install it: pip install 'mergecore[search]'"


class RandomParams(Params):
    """`random` has no parameters."""


class GridParams(Params):
    """How fine the grid is."""

    points: int = Field(default=5, ge=2, le=1000, description="values of a range that says no step")


class TpeParams(Params):
    """How TPE models what was tried."""

    startup: int = Field(default=10, ge=1, description="points that are drawn at random first")
    together: bool = Field(default=True, description="whether dimensions are modelled together")


class CmaParams(Params):
    """How CMA-ES begins."""

    sigma: float | None = Field(
        default=None, gt=0, description="width of the first steps, where ranges are 1 wide"
    )
    population: int | None = Field(default=None, ge=2, description="points of a generation")


class Nsga2Params(Params):
    """How large generations are."""

    population: int = Field(default=20, ge=2, description="points of a generation")


@hookimpl
def mergecore_samplers() -> Iterator[Sampler[Any]]:
    """Yield the samplers of optuna."""
    yield Sampler(
        name="random",
        begin=partial(_begin, _random),
        params=RandomParams,
        several=True,
        summary="draw points at random",
    )
    yield Sampler(
        name="grid",
        begin=Grid,
        params=GridParams,
        several=True,
        summary="go through all points of a grid, in a random order",
    )
    yield Sampler(
        name="tpe",
        begin=partial(_begin, _tpe),
        params=TpeParams,
        several=True,
        summary="TPE: draw where good points were; for few trials",
    )
    yield Sampler(
        name="cma",
        begin=partial(_begin, _cma),
        params=CmaParams,
        summary="CMA-ES: for many ranges of numbers and many trials",
    )
    yield Sampler(
        name="nsga2",
        begin=partial(_begin, _nsga2),
        params=Nsga2Params,
        several=True,
        summary="NSGA-II: for several objectives",
    )


def _begin(make: Callable[[SearchRequest, Any], Any], request: SearchRequest, params: Params) -> _Study:
    return _Study(request, make(request, params))


class _Study:
    """A study of optuna in memory, which asks for points and is told what came of them."""

    def __init__(self, request: SearchRequest, sampler: Any) -> None:
        optuna = _optuna()
        self._request = request
        self._space = {one.name: _distribution(one) for one in request.dimensions}
        with _quiet():
            self._study = optuna.create_study(directions=["maximize"] * request.objectives, sampler=sampler)
        self._asked: dict[int, Any] = {}

    def ask(self, number: int) -> Point | None:
        """The next point."""
        with _quiet():
            self._asked[number] = self._study.ask(self._space)
        return dict(self._asked[number].params)

    def tell(self, tried: Tried) -> None:
        """What came of it."""
        optuna = _optuna()
        states = optuna.trial.TrialState
        trial = self._asked.get(tried.number)
        with _quiet():
            if trial is None:
                if tried.state == "complete":
                    self._study.add_trial(
                        optuna.create_trial(
                            params=dict(tried.point), distributions=self._space, values=list(tried.values)
                        )
                    )
            elif tried.state == "complete":
                self._study.tell(trial, list(tried.values))
            elif tried.state == "pruned" and self._request.objectives == 1:
                trial.report(tried.values[0], 1)
                self._study.tell(trial, state=states.PRUNED)
            else:
                self._study.tell(trial, state=states.FAIL)


class Grid:
    """All points of a grid, in a random order; it needs no optuna, and learns nothing of what it is told."""

    def __init__(self, request: SearchRequest, params: GridParams) -> None:
        self._values = {one.name: _values(one, params.points) for one in request.dimensions}
        count = math.prod(map(len, self._values.values()))
        if count > MOST:
            what = f"the grid has {count} points; {MOST} are the most"
            hint = (
                "give ranges a 'step', write 'sampler: {name: grid, points: 3}', or use the sampler 'random'"
            )
            raise ConfigError("E104", what, hint=hint)
        self._order = random.Random(request.seed).sample(range(count), count)  # noqa: S311 - no secret

    def ask(self, number: int) -> Point | None:
        """A point that was not asked for yet; None when the grid is through."""
        if not self._order:
            return None
        index, point = self._order.pop(), {}
        for name, values in self._values.items():
            index, place = divmod(index, len(values))
            point[name] = values[place]
        return point

    def tell(self, tried: Tried) -> None:
        """Nothing depends on it."""


MOST = 1_000_000
"""Points of a grid."""

# ---- samplers ----------------------------------------------------------------------------------------------


def _random(request: SearchRequest, params: RandomParams) -> Any:
    return _optuna().samplers.RandomSampler(seed=request.seed)


def _tpe(request: SearchRequest, params: TpeParams) -> Any:
    return _optuna().samplers.TPESampler(
        seed=request.seed,
        n_startup_trials=params.startup,
        multivariate=params.together,
        constant_liar=request.batch > 1,
    )


def _cma(request: SearchRequest, params: CmaParams) -> Any:
    choices = [one.name for one in request.dimensions if isinstance(one, Options)]
    if choices:
        what = f"the sampler 'cma' takes ranges of numbers only; {', '.join(map(repr, choices))} is a choice"
        raise ConfigError("E104", what, hint="use the sampler 'tpe', or write one value")
    if len(request.dimensions) < 2:
        raise ConfigError("E104", "the sampler 'cma' takes two ranges or more", hint="use the sampler 'tpe'")
    _installed("cmaes")
    return _optuna().samplers.CmaEsSampler(seed=request.seed, sigma0=params.sigma, popsize=params.population)


def _nsga2(request: SearchRequest, params: Nsga2Params) -> Any:
    return _optuna().samplers.NSGAIISampler(seed=request.seed, population_size=params.population)


# ---- optuna ------------------------------------------------------------------------------------------------


def _optuna() -> Any:
    """The library, or an error that says how to install it."""
    return _installed("optuna")


def _installed(name: str) -> Any:
    import importlib

    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        raise ConfigError("E606", f"the samplers need the package '{name}'", hint=INSTALL) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """While it lasts, optuna says nothing of trials, and of what it calls experimental."""
    import warnings

    logging = _optuna().logging
    level = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(level)


def _distribution(dimension: Dimension) -> Any:
    distributions = _optuna().distributions
    if isinstance(dimension, Options):
        return distributions.CategoricalDistribution(list(range(dimension.count)))
    if dimension.whole:
        return distributions.IntDistribution(
            int(dimension.low), int(dimension.high), log=dimension.log, step=int(dimension.step or 1)
        )
    step = None if dimension.step is None else dimension.step
    return distributions.FloatDistribution(dimension.low, dimension.high, log=dimension.log, step=step)


def _values(dimension: Dimension, points: int) -> list[float]:
    """The values of a dimension on the grid."""
    if isinstance(dimension, Options):
        return list(range(dimension.count))
    low, high = dimension.low, dimension.high
    step = dimension.step or (1 if dimension.whole and high - low < points else None)
    if step is not None:
        count = int((high - low) / step + 1e-9) + 1
        return [_of(dimension, low + i * step) for i in range(count)]
    parts = [i / (points - 1) for i in range(points)]
    if dimension.log:
        found = [low * (high / low) ** part for part in parts]
    else:
        found = [low + (high - low) * part for part in parts]
    return list(dict.fromkeys(_of(dimension, one) for one in found))


def _of(dimension: Interval, value: float) -> float:
    value = min(max(value, dimension.low), dimension.high)
    return round(value) if dimension.whole else float(f"{value:.12g}")
