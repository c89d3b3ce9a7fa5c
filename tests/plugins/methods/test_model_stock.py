"""Model Stock: the angle between task vectors decides how far from the base."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from merging import merge, normal
from tiny import write_llama

import mergecore
from mergecore import ConfigError
from mergecore.types import Json

ZERO = torch.zeros(2)
SIXTY = [0.5, math.sqrt(0.75)]


def test_at_sixty_degrees_two_thirds_of_the_mean_are_added() -> None:
    """t = 2 · 0.5 / (1 + 0.5) = 2/3 of the mean (0.75, 0.433) of the task vectors."""
    merged = merge("model_stock", [1.0, 0], SIXTY, base=ZERO)
    assert torch.allclose(merged, torch.tensor([0.5, math.sqrt(0.75) / 3]))


def test_three_models_count_with_the_mean_cosine_of_their_pairs() -> None:
    """Cosines 1, 0, 0 have the mean 1/3; t = 3 · 1/3 / (1 + 2 · 1/3) = 0.6 of the mean (2/3, 1/3)."""
    merged = merge("model_stock", [1.0, 0], [1.0, 0], [0, 1.0], base=ZERO)
    assert torch.allclose(merged, torch.tensor([0.4, 0.2]))


@pytest.mark.parametrize("other", [[0, 1.0], [-0.4726, 0.8813], [-1.0, 0], [-2.0, 0]])
@pytest.mark.parametrize("filter_wise", [False, True])
def test_from_a_right_angle_on_the_base_comes_out(other: list[float], filter_wise: bool) -> None:
    """The formula without limits would move away from the mean: t = -1.79 for the second, infinite for the last."""
    base = torch.tensor([[3.0, 4.0]])
    merged = merge(
        "model_stock",
        base + torch.tensor([[1.0, 0]]),
        base + torch.tensor([other]),
        base=base,
        filter_wise=filter_wise,
    )
    assert torch.equal(merged, base)


@pytest.mark.parametrize("size", [1e-30, 1e-12, 1e-6, 1.0, 1e15])
def test_no_task_vector_is_too_small_or_too_large_to_count(size: float) -> None:
    x = normal(64, 64) * size
    assert torch.allclose(merge("model_stock", x, x, base=torch.zeros(64, 64)) / size, x / size, atol=1e-6)


def test_a_zero_task_vector_is_at_a_right_angle_to_the_others() -> None:
    """Cosines 1, 0, 0 as above: 0.6 of the mean 2/3."""
    merged = merge("model_stock", [1.0, 0], [1.0, 0], ZERO, base=ZERO)
    assert torch.allclose(merged, torch.tensor([0.4, 0]))


def test_filter_wise_takes_each_row_for_itself() -> None:
    """The first rows agree, the second ones are at a right angle, the third at 60° as above."""
    first = [[1.0, 0.0], [1.0, 0.0], [1.0, 0.0]]
    second = [[1.0, 0.0], [0.0, 1.0], SIXTY]
    merged = merge("model_stock", first, second, base=torch.zeros(3, 2), filter_wise=True)
    assert torch.allclose(merged, torch.tensor([[1, 0], [0, 0], [0.5, math.sqrt(0.75) / 3]]))


def test_a_vector_is_one_row() -> None:
    first, second = normal(50, seed=1), normal(50, seed=2) + normal(50, seed=1)
    base = normal(50, seed=3)
    whole = merge("model_stock", first, second, base=base)
    assert torch.equal(merge("model_stock", first, second, base=base, filter_wise=True), whole)
    row = merge("model_stock", first[None], second[None], base=base[None], filter_wise=True)
    assert torch.allclose(row[0], whole, atol=1e-6)


def test_one_model_is_too_few(tmp_path: Path) -> None:
    base, model = write_llama(tmp_path / "base", 1), write_llama(tmp_path / "model", 1, seed=1)
    config: dict[str, Json] = {
        "merge_method": "model_stock",
        "base_model": str(base),
        "models": [{"model": str(model)}],
    }
    with pytest.raises(ConfigError, match="model_stock merges at least 2 models beside base_model, not 1"):
        mergecore.plan(config)
