"""Checkpoints of one run, weighted by a schedule."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from refusals import refused
from task_vectors import method_called
from tiny import read_tensors, write_llama
from torch import Tensor

from mergecore import ConfigError, execute, plan
from mergecore.testing import run_method
from mergecore.types import Json
from mergecore_plugins.methods.average import AverageParams, check_params
from mergecore_plugins.methods.common import schedule_weights

AVERAGE = method_called("average")
WSM: Mapping[str, Callable[[float], float]] = {
    "linear": lambda x: 1 - x,
    "minus-sqrt": lambda x: 1 - math.sqrt(x),
}


def merged(*numbers: float, **params: object) -> float:
    tensors = [torch.tensor([number], dtype=torch.float64) for number in numbers]
    return float(run_method(AVERAGE, AverageParams.model_validate(params), tensors))


def test_uniform_is_the_mean() -> None:
    """(1 + 2 + 6) / 3 = 3."""
    assert merged(1, 2, 6) == pytest.approx(3, abs=1e-15)


def test_ema_goes_a_part_of_the_way_to_each_checkpoint() -> None:
    """0.75 · 8 + 0.25 · 16 = 10, then 0.75 · 10 + 0.25 · 2 = 8."""
    assert merged(8, 16, 2, schedule="ema", decay=0.75) == 8
    assert merged(8, 16, 2, schedule="ema", decay=0) == 2


def test_minus_sqrt_takes_little_of_the_last_changes() -> None:
    """f(1/4) = 1/2, f(2/4) = 0.292893, f(3/4) = 0.133975: 0 + 0.5 · 8 + 0.292893 · 16 + 0.133975 · 32."""
    assert merged(0, 8, 24, 56, schedule="minus-sqrt") == pytest.approx(12.973479, abs=1e-6)
    assert schedule_weights("minus-sqrt", 4) == pytest.approx((0.5, 0.207107, 0.158919, 0.133975), abs=1e-6)


def test_linear_decay_is_the_mean_of_evenly_spaced_checkpoints() -> None:
    for count in range(1, 9):
        assert schedule_weights("linear", count) == pytest.approx((1 / count,) * count, abs=1e-15)


def test_a_checkpoint_alone_comes_out_as_it_is() -> None:
    for schedule in ("uniform", "ema", "linear", "minus-sqrt"):
        assert merged(0.1, schedule=schedule) == 0.1


# ---- what the schedules stand for --------------------------------------------------------------------------


def trained(gradients: Sequence[Tensor], rates: Sequence[float]) -> Tensor:
    """What plain gradient descent makes of zeros, one step for each gradient."""
    weights = torch.zeros_like(gradients[0])
    for gradient, rate in zip(gradients, rates, strict=True):
        weights = weights - rate * gradient
    return weights


@pytest.mark.parametrize("schedule", WSM)
@pytest.mark.parametrize("count", [2, 3, 5, 12])
def test_the_average_is_what_training_with_a_decay_would_give(schedule: str, count: int) -> None:
    """The same gradients, once at a constant rate, once with a rate that falls behind the first checkpoint."""
    every, factor = 3, WSM[schedule]
    generator = torch.Generator().manual_seed(count)
    gradients = list(torch.randn(every * count, 50, generator=generator, dtype=torch.float64))
    stops = [every * i for i in range(1, count + 1)]
    checkpoints = [trained(gradients[:stop], [0.1] * stop) for stop in stops]
    rates = [0.1] * every + [0.1 * factor(i / count) for i in range(1, count) for _ in range(every)]
    found = run_method(AVERAGE, AverageParams.model_validate({"schedule": schedule}), checkpoints)
    assert torch.allclose(found, trained(gradients, rates), rtol=0, atol=1e-14)


@pytest.mark.parametrize("schedule", WSM)
def test_so_it_is_where_checkpoints_are_not_evenly_spaced(schedule: str) -> None:
    """After 10, 20, 50 and 60 of 60 steps; three distances of 50/3, so the decay would end at 10 + 4 · 50/3."""
    stops, factor = [10, 20, 50, 60], WSM[schedule]
    generator = torch.Generator().manual_seed(0)
    gradients = list(torch.randn(60, 50, generator=generator, dtype=torch.float64))
    checkpoints = [trained(gradients[:stop], [0.1] * stop) for stop in stops]
    rates = [0.1] * 10
    for before, stop in pairwise(stops):
        rates += [0.1 * factor((stop - 10) / (4 * 50 / 3))] * (stop - before)
    params = AverageParams.model_validate({"schedule": schedule, "step": stops})
    found = run_method(AVERAGE, params, checkpoints)
    assert torch.allclose(found, trained(gradients, rates), rtol=0, atol=1e-14)


@pytest.mark.parametrize("schedule", WSM)
@pytest.mark.parametrize("count", [1, 2, 7, 40])
def test_weights_are_none_below_0_and_sum_to_1(schedule: str, count: int) -> None:
    weights = schedule_weights(schedule, count)  # type: ignore[arg-type]
    assert min(weights) >= 0
    assert float(sum(map(Fraction, weights))) == pytest.approx(1, abs=1e-15)


def test_steps_of_one_distance_change_nothing() -> None:
    for count in range(2, 9):
        steps = [1e6 + 500.0 * i for i in range(count)]
        found = schedule_weights("minus-sqrt", count, at=steps)
        assert found == pytest.approx(schedule_weights("minus-sqrt", count), abs=1e-15)


def published(count: int, factor: Callable[[float], float]) -> list[float]:
    """The weights as the paper writes them, newest first: what is left of the decay at each checkpoint."""
    left = [factor(i / count) for i in range(count)]
    weights = [left[-1]] + [left[i] - left[i + 1] for i in range(count - 2, 0, -1)]
    return [*weights, 1 - sum(weights)]


@pytest.mark.parametrize("schedule", WSM)
def test_the_weights_are_those_of_the_paper(schedule: str) -> None:
    for count in range(2, 30):
        found = schedule_weights(schedule, count)  # type: ignore[arg-type]
        assert found[::-1] == pytest.approx(published(count, WSM[schedule]), abs=1e-15)


@pytest.mark.parametrize("schedule", ["uniform", "ema", "linear", "minus-sqrt"])
def test_the_page_of_the_methods_shows_the_weights_of_five(schedule: str) -> None:
    text = (Path(__file__).parents[3] / "docs" / "reference" / "methods.md").read_text(encoding="utf8")
    row = [line for line in text.splitlines() if line.startswith(f"| `{schedule}` |")][-1]
    shown = ", ".join(f"{one:.2f}" for one in schedule_weights(schedule, 5))  # type: ignore[arg-type]
    assert row.endswith(f"| {shown} |")


# ---- in a config -------------------------------------------------------------------------------------------


def test_checkpoints_count_in_the_order_in_which_they_are_listed(tmp_path: Path) -> None:
    """Also where one of them is the base model: 0.25 · 1 + 0.25 · 2 + 0.5 · 4 = 2.75."""
    folders = [write_llama(tmp_path / f"checkpoint-{one:g}", 1, one) for one in (1.0, 2.0, 4.0)]
    config = {
        "merge_method": "average",
        "models": [{"model": str(folder)} for folder in folders],
        "parameters": {"schedule": "ema"},
    }
    for base in ({}, {"base_model": str(folders[2])}):
        tensors = read_tensors(execute(plan({**config, **base}), tmp_path / f"out-{len(base)}"))
        assert {float(one) for tensor in tensors.values() for one in tensor.flatten()} == {2.75}


def test_a_step_can_be_given_for_each_model(tmp_path: Path) -> None:
    """x = 0, 2/9, 2/3, so f = 7/9 and 1/3: 3 + 7/9 · 3 + 1/3 · 6 = 22/3."""
    models = [
        {"model": str(write_llama(tmp_path / f"at-{step}", 1, value)), "parameters": {"step": step}}
        for step, value in ((10, 3.0), (20, 6.0), (40, 12.0))
    ]
    config = {"merge_method": "average", "models": models, "parameters": {"schedule": "linear"}}
    tensors = read_tensors(execute(plan(config), tmp_path / "out"))
    assert {round(float(one), 5) for one in tensors["model.norm.weight"]} == {round(22 / 3, 5)}


@pytest.mark.parametrize(
    ("params", "text"),
    [
        ({"schedule": "linear", "step": [1, None]}, "step is given for some of the 2 checkpoints only"),
        ({"schedule": "linear", "step": [2, 1]}, "the steps do not rise: 2, 1"),
        ({"schedule": "linear", "step": [2, 2]}, "list the checkpoints in the order of training, each once"),
        ({"schedule": "ema", "step": [1, 2]}, "step has no effect with schedule: ema"),
        ({"step": [1, 2]}, "remove it; the schedules that use it are linear and minus-sqrt"),
        ({"schedule": "linear", "step": [1, None]}, "for none where they are evenly spaced"),
    ],
)
def test_steps_that_make_no_sense_are_refused(params: dict[str, object], text: str) -> None:
    with pytest.raises(ConfigError, match=text) as caught:
        check_params(AverageParams.model_validate(params), 2)
    assert caught.value.code == "E105"


def test_a_schedule_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    models: list[Json] = [{"model": str(write_llama(tmp_path / one, 1))} for one in "ab"]
    found = refused({"merge_method": "average", "models": models, "parameters": {"schedule": "minus_sqrt"}})
    assert len(found) == 1
    assert "'uniform' or 'ema' or 'linear' or 'minus-sqrt' is expected" in found[0]
