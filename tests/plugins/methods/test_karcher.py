"""Karcher mean: made with factors instead of tensors, and with guards."""

from __future__ import annotations

import math

import pytest
import torch
from merging import golden_models, merge, normal, params_of
from pydantic import ValidationError
from task_vectors import close
from torch import Tensor


def test_the_mean_of_two_directions_halves_the_angle_and_has_the_mean_length() -> None:
    """90° between lengths 1 and 3: 45° at length 2."""
    merged = merge("karcher", [1.0, 0], [0, 3.0])
    assert torch.allclose(merged, torch.tensor([1, 1]) * math.sqrt(2))


def test_the_golden_row() -> None:
    digits = (
        "0.511770 0.313381 -0.121376 -0.454312 -0.446793 -0.164840 "
        "0.315431 0.510033 0.310980 -0.129070 -0.462314 -0.442386"
    )
    assert close(merge("karcher", *golden_models(1, 2, 3)), digits)


def in_tensors(models: list[Tensor], steps: int) -> Tensor:
    """The same mean, iterated on whole vectors in float64."""
    x = torch.stack(models).double().flatten(1)
    length = x.norm(dim=1)
    unit = x / length[:, None]
    u = unit.mean(0)
    u = u / u.norm()
    for _ in range(steps):
        cosine = unit @ u
        angle = cosine.acos()
        tangent = ((angle / angle.sin())[:, None] * (unit - cosine[:, None] * u)).mean(0)
        step = tangent.norm()
        u = step.cos() * u + step.sin() * tangent / step
    mean: Tensor = u * length.mean()
    return mean.view(models[0].shape)


@pytest.mark.parametrize("steps", [1, 3])
def test_factors_do_what_whole_vectors_would(steps: int) -> None:
    models = [normal(300, seed=seed) + seed * normal(300, seed=9) for seed in range(4)]
    merged = merge("karcher", *models, max_iter=steps, tol=1e-12)
    assert torch.allclose(merged.double(), in_tensors(models, steps), rtol=1e-5, atol=1e-5)


def test_no_steps_leave_the_mean_of_the_directions() -> None:
    """(2, 1) / √5, at length 1; the steps would move it towards the third."""
    models = [1.0, 0], [1.0, 0], [0, 1.0]
    start = merge("karcher", *models, max_iter=0)
    assert torch.allclose(start, torch.tensor([2, 1]) / math.sqrt(5))
    third = torch.tensor([math.cos(math.pi / 6), math.sin(math.pi / 6)])  # the mean of 0°, 0° and 90°
    assert torch.allclose(merge("karcher", *models), third)


@pytest.mark.parametrize("size", [1.0, 1.1, 3.0])
def test_two_opposite_tensors_give_the_direction_of_the_first(size: float) -> None:
    x = normal(40, 5)
    merged = merge("karcher", x, -size * x)
    assert torch.allclose(merged, (1 + size) / 2 * x, atol=1e-5)


def test_an_opposite_one_among_several_pulls_nowhere() -> None:
    x = normal(40)
    merged = merge("karcher", x, x, -x)
    assert torch.allclose(merged, x, atol=1e-5)


def test_a_zero_tensor_has_no_direction_but_shortens_the_mean() -> None:
    assert torch.allclose(merge("karcher", [0.0, 0], [3.0, 4]), torch.tensor([1.5, 2.0]))


def test_zero_tensors_give_zero() -> None:
    zero = torch.zeros(4)
    assert torch.equal(merge("karcher", zero, zero, zero), zero)


@pytest.mark.parametrize("size", [1e-20, 1e-6, 1.0, 1e20])
def test_tensors_of_any_size_have_a_mean(size: float) -> None:
    """A limit on lengths, and not on their ratio, would make zeros of small tensors."""
    models = [normal(30, seed=seed) * size for seed in range(3)]
    plain = merge("karcher", *(normal(30, seed=seed) for seed in range(3)))
    assert torch.allclose(merge("karcher", *models) / size, plain, atol=1e-6)


def test_a_lone_model_comes_out_as_it_is() -> None:
    assert merge("karcher", [0.1, 2, 3]).tolist() == pytest.approx([0.1, 2, 3])


def test_tol_is_above_zero_and_steps_are_not_negative() -> None:
    with pytest.raises(ValidationError, match="greater than 0"):
        params_of("karcher", tol=0)
    with pytest.raises(ValidationError, match="greater than or equal to 0"):
        params_of("karcher", max_iter=-1)
