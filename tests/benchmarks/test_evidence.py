"""The evidence: its scores and tables on numbers made by hand, and a whole run on a tiny scale."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from benchmarks import evidence
from benchmarks.evidence import GRID, PAGE, TASKS, Experiment, left_out, run_seed
from benchmarks.evidence_report import (
    Fitness,
    Outcome,
    Seed,
    best_scale,
    fitness,
    gains,
    report,
    spread,
)
from benchmarks.methods import CASES, SETTINGS, Case, Setting, setting_config
from benchmarks.pages import with_tables

from mergecore.plugins.registry import Registry
from mergecore_plugins.commands.demo.digits import Split, load_split
from mergecore_plugins.commands.demo.train import Schedule

TA = Setting("task_arithmetic", CASES["task_arithmetic"], "lambda")
AVERAGING = Setting("linear", CASES["linear"])


def fit(normalised: float) -> Fitness:
    return Fitness({"one": normalised / 2}, normalised)


def seed(number: int, averaging: float, ta: float, scale: float) -> Seed:
    """Made-up results of one seed."""
    outcomes = {
        "linear": Outcome(fit(averaging), fit(averaging), None, {}),
        "task_arithmetic": Outcome(fit(20), fit(ta), scale, {0.1: 50.0 + number, 1.0: 20.0}),
    }
    return Seed(number, 60, 100, fit(70), fit(100), fit(65), outcomes)


SEEDS = [seed(0, averaging=80, ta=81, scale=0.1), seed(1, averaging=84, ta=83, scale=1.0)]


def test_the_score_is_the_mean_over_tasks_of_the_share_of_the_experts_accuracy() -> None:
    got = fitness({"one": 40.0, "two": 90.0}, {"one": 80.0, "two": 90.0})
    assert got.normalised == 75  # (40/80 + 90/90) / 2
    assert got.accuracy == {"one": 40.0, "two": 90.0}


def test_an_expert_scores_100_at_its_own_task() -> None:
    own = {"one": 87.3, "two": 91.1}
    assert fitness(own, own).normalised == pytest.approx(100)


def test_the_best_scale_has_the_highest_score_and_is_the_smallest_of_equals() -> None:
    assert best_scale({0.5: 70.0, 0.1: 60.0, 1.0: 65.0}) == 0.5
    assert best_scale({1.0: 70.0, 0.2: 70.0, 0.1: 60.0}) == 0.2


def test_there_are_eight_tasks() -> None:
    assert len(TASKS) == 8


def test_the_grid_rises_and_holds_the_default_of_lambda() -> None:
    assert list(GRID) == sorted(set(GRID))
    assert GRID[0] > 0
    assert 1.0 in GRID


def test_a_gain_is_the_difference_to_averaging_with_the_same_seed() -> None:
    assert gains(SEEDS, "task_arithmetic") == [1, -1]
    assert gains(SEEDS, "linear") == [0, 0]


def test_a_spread_is_the_sample_deviation_and_absent_for_one_value() -> None:
    assert spread([1.0, 3.0]) == "2.0 ± 1.4"  # sqrt(((-1)^2 + 1^2) / 1)
    assert spread([1.0, 3.0], "+") == "+2.0 ± 1.4"
    assert spread([2.0]) == "2.0"


def test_the_tables_show_scores_gains_scales_and_what_no_scale_gives() -> None:
    lines = report(SEEDS, (0.1, 1.0), {"a": "takes 1", "b": "takes 2", "c": "takes 1"}).splitlines()
    cells = {line.split(" | ")[0].strip("| "): line.strip("| ").split(" | ")[1:] for line in lines}
    assert cells["**averaging** (linear)"] == ["82.0 ± 2.8", "", "", "none to pick", "82.0 ± 2.8"]
    assert cells["*the base*: 35.0 ± 0.0 % read correctly"][0] == "70.0 ± 0.0"
    first = next(line for line in lines if line.startswith("| task_arithmetic"))
    assert first == "| task_arithmetic | 82.0 ± 1.4 | +0.0 ± 1.4 | 1 of 2 | 0.1 to 1 | 20.0 ± 0.0 |"
    assert lines[-1] == "| task_arithmetic | 50 | 20 |"  # (50 + 51) / 2, to the even number
    assert "Not in the table: a, c (takes 1); b (takes 2)." in lines


def test_the_page_has_both_markers() -> None:
    assert "new table" in with_tables(PAGE.read_text(encoding="utf8"), "make evidence", "new table")


def test_every_method_that_takes_eight_models_has_a_setting() -> None:
    assert all(reason.startswith("takes ") for reason in left_out(Registry.discover()).values())
    names = [setting.name for setting in SETTINGS]
    assert len(names) == len(set(names))


def test_lambda_is_the_scale_and_left_out_by_default() -> None:
    plain, scaled = (setting_config(TA, Path("b"), [Path("x"), Path("y")], scale) for scale in (None, 0.3))
    assert "parameters" not in plain
    assert scaled["parameters"] == {"lambda": 0.3}
    assert plain["models"] == scaled["models"] == [
        {"model": "x", "parameters": {"weight": 1.0}},
        {"model": "y", "parameters": {"weight": 1.0}},
    ]  # fmt: skip


def test_weights_are_the_scale_where_there_is_no_lambda() -> None:
    setting = Setting("multislerp", Case(), "weights", {"normalize_weights": False}, note="base_model")
    assert setting.name == "multislerp, base_model"
    scaled = setting_config(setting, Path("b"), [Path("x")], 0.3)
    assert scaled["models"] == [{"model": "x", "parameters": {"weight": 0.3}}]
    assert scaled["parameters"] == {"normalize_weights": False}


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> Experiment:
    """Two tasks, few steps, few images, two methods, two scales."""
    monkeypatch.setattr(evidence, "TASKS", ("identity", "negative"))
    whole = load_split()
    return Experiment(
        schedule=Schedule(base_steps=30, tune_steps=5, base_images=1, batch=16),
        split=Split(whole.train[:50], whole.validation[:40], whole.test[:40]),
        settings=(AVERAGING, TA, Setting("absent", Case())),
        grid=(0.125, 2.0),
    )


def test_a_seed_is_trained_once_merged_scored_and_the_same_again(
    tiny: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = torch.get_num_threads()
    first = run_seed(3, tmp_path, tiny)
    monkeypatch.setattr(evidence, "train", pytest.fail)
    again = run_seed(3, tmp_path, tiny)
    assert torch.get_num_threads() == threads
    assert (first.base, first.experts, first.outcomes) == (again.base, again.experts, again.outcomes)
    assert first.outcomes.keys() == {"linear", "task_arithmetic"}  # a method that is not installed is no row
    ta = first.outcomes["task_arithmetic"]
    assert ta.scale == best_scale(ta.validation)
    assert ta.validation.keys() == {0.125, 2.0}
    assert first.outcomes["linear"].scale is None
    assert first.base.accuracy.keys() == first.experts.accuracy.keys() == {"identity", "negative"}
    assert first.experts.normalised == pytest.approx(100)
    models = {path.name for path in (tmp_path / "seed-3/models").iterdir()}
    assert models == {"base", "identity", "negative"}
    assert not (tmp_path / "seed-3/merged").exists()
