"""The samplers of optuna: they keep what is asked of samplers, and find what is good."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from mergecore import Registry, Sampler
from mergecore.errors import ConfigError
from mergecore.testing import check_sampler
from mergecore.types import Dimension, Interval, Options, SearchRequest, Tried

NAMES = ("cma", "grid", "nsga2", "random", "tpe")
PLANE = (Interval(name="a", low=0, high=1), Interval(name="b", low=-1, high=1))


def sampler(name: str) -> Sampler[Any]:
    found: Sampler[Any] = Registry.discover().get(Sampler, name)
    return found


def request(*dimensions: Dimension, objectives: int = 1, trials: int = 60, batch: int = 4) -> SearchRequest:
    return SearchRequest(dimensions=dimensions, objectives=objectives, seed=3, trials=trials, batch=batch)


def best(name: str, trials: int = 60, pruned: bool = False) -> float:
    """The least distance from a = 0.3, b = 0.2 that a sampler comes to."""
    one = sampler(name)
    sampling = one.begin(request(*PLANE), one.params())
    found = []
    for number in range(trials):
        point = sampling.ask(number)
        if point is None:
            break
        found.append((point["a"] - 0.3) ** 2 + (point["b"] - 0.2) ** 2)
        late = pruned and found[-1] > 0.3
        sampling.tell(
            Tried(number=number, point=point, values=(-found[-1],), state="pruned" if late else "complete")
        )
    return min(found)


@pytest.mark.parametrize("name", NAMES)
def test_samplers_keep_the_contract(name: str) -> None:
    check_sampler(sampler(name), choices=name != "cma")


@pytest.mark.parametrize("name", ["tpe", "cma"])
def test_a_model_of_what_was_tried_is_better_than_chance(name: str) -> None:
    assert best(name) < 0.003
    assert best(name, pruned=True) < 0.02


def test_a_grid_ends_and_has_every_point_once() -> None:
    one = sampler("grid")
    sampling = one.begin(
        request(
            Interval(name="a", low=0, high=1, step=0.5),
            Interval(name="n", low=1, high=3, whole=True),
            Interval(name="l", low=0.01, high=1, log=True),
            Options(name="c", count=2),
        ),
        one.params.model_validate({"points": 3}),
    )
    points: list[tuple[float, ...]] = []
    while (point := sampling.ask(len(points))) is not None:
        points.append(tuple(round(point[name], 9) for name in "anlc"))
        sampling.tell(Tried(number=len(points) - 1, point=point, values=(0.0,)))
    wanted = {(a, n, x, c) for a in (0, 0.5, 1) for n in (1, 2, 3) for x in (0.01, 0.1, 1) for c in (0, 1)}
    assert len(points) == 3 * 3 * 3 * 2
    assert set(points) == wanted


def test_points_that_nobody_asked_for_count_too() -> None:
    one = sampler("tpe")
    sampling = one.begin(request(*PLANE), one.params())
    sampling.tell(Tried(number=0, point={"a": 0.5, "b": 0.5}, values=(1.0,)))
    sampling.tell(Tried(number=1, point={"a": 0.5, "b": 0.5}, values=(), state="failed"))
    assert sampling.ask(2) is not None


def test_cma_says_what_it_cannot_search() -> None:
    one = sampler("cma")
    with pytest.raises(
        ConfigError, match="the sampler 'cma' takes ranges of numbers only; 'm' is a choice"
    ) as caught:
        one.begin(request(*PLANE, Options(name="m", count=2)), one.params())
    assert caught.value.hint == "use the sampler 'tpe', or write one value"
    with pytest.raises(ConfigError, match="the sampler 'cma' takes two ranges or more") as caught:
        one.begin(request(PLANE[0]), one.params())
    assert caught.value.hint == "use the sampler 'tpe'"


@pytest.mark.parametrize("name", ["random", "cma"])
def test_a_package_that_is_missing_is_named_with_what_to_install(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = "cmaes" if name == "cma" else "optuna"
    monkeypatch.setitem(sys.modules, package, None)
    one = sampler(name)
    with pytest.raises(ConfigError, match=f"the samplers need the package '{package}'") as caught:
        one.begin(request(*PLANE), one.params())
    assert caught.value.hint == "install it: pip install 'mergecore[search]'"
    assert caught.value.code == "E606"


def test_a_grid_that_nobody_could_go_through_is_refused() -> None:
    one = sampler("grid")
    with pytest.raises(ConfigError, match="the grid has 9765625 points; 1000000 are the most") as caught:
        one.begin(request(*[Interval(name=name, low=0, high=1) for name in "abcdefghij"]), one.params())
    assert caught.value.hint == (
        "give ranges a 'step', write 'sampler: {name: grid, points: 3}', or use the sampler 'random'"
    )
