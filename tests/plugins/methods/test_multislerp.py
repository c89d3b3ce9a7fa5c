"""Multi-SLERP: the mean direction at the mean length."""

from __future__ import annotations

import math

import pytest
import torch
from merging import golden_models, merge, normal, params_of
from task_vectors import GOLDEN_WEIGHTS, close, method_called
from torch import Tensor

from mergecore import MergeError


def test_the_mean_of_two_directions_has_the_mean_length() -> None:
    """Directions (1, 0) and (0, 1), lengths 1 and 3: the diagonal at length 2."""
    merged = merge("multislerp", [1.0, 0], [0, 3.0], weight=[1, 1])
    assert torch.allclose(merged, torch.tensor([1, 1]) * math.sqrt(2))


def test_the_golden_row_without_a_base() -> None:
    digits = (
        "0.518530 0.306832 -0.126573 -0.446377 -0.443461 -0.187079 "
        "0.314361 0.518797 0.309593 -0.137598 -0.458681 -0.434614"
    )
    assert close(merge("multislerp", *golden_models(1, 2, 3), weight=GOLDEN_WEIGHTS), digits)


def test_the_golden_row_with_a_base() -> None:
    base, *models = golden_models(0, 1, 2, 3)
    digits = (
        "0.534715 0.314768 -0.149338 -0.446790 -0.413995 -0.278354 "
        "0.286597 0.521960 0.329248 -0.150264 -0.473296 -0.411535"
    )
    assert close(merge("multislerp", *models, base=base, weight=GOLDEN_WEIGHTS), digits)


def with_tangents(models: list[Tensor], weights: list[float]) -> Tensor:
    """The method as it is usually written: from the mean direction on along the mean of the tangents there."""
    x = torch.stack(models).double().flatten(1)
    weight = torch.tensor(weights, dtype=torch.float64)
    weight = weight / weight.sum()
    length = x.norm(dim=1)
    unit = x / length[:, None]
    mean = weight @ unit
    mean = mean / mean.norm()
    tangent = weight @ (unit - (unit @ mean)[:, None] * mean)
    angle = tangent.norm() + 1e-8
    point = mean * angle.cos() + tangent * (angle.sin() / angle)
    merged: Tensor = point * (weight @ length)
    return merged.view(models[0].shape)


def test_the_usual_form_with_tangents_gives_the_same() -> None:
    models = [normal(20, 30, seed=seed) * (seed + 1) for seed in range(4)]
    weights = [0.1, 0.5, 0.2, 0.9]
    merged = merge("multislerp", *models, weight=weights)
    assert torch.allclose(merged.double(), with_tangents(models, weights), rtol=1e-5, atol=1e-5)


def test_weights_that_are_not_normalised_scale_the_length() -> None:
    """1.5 times the mean length 2, in the direction of the diagonal."""
    merged = merge("multislerp", [1.0, 0], [0, 3.0], weight=[0.75, 0.75], normalize_weights=False)
    assert torch.allclose(merged, 1.5 * torch.tensor([1, 1]) * math.sqrt(2))


@pytest.mark.parametrize("base", [None, [1.0, 1, 1]])
def test_a_lone_model_comes_out_as_it_is(base: list[float] | None) -> None:
    merged = merge("multislerp", [1.0, 2, 3], base=base, weight=[0.3], normalize_weights=False)
    assert merged.tolist() == [1, 2, 3]


def test_a_zero_tensor_has_no_direction_but_shortens_the_mean() -> None:
    """The direction is that of the other, the length half of its 5."""
    assert torch.allclose(merge("multislerp", [0.0, 0], [3.0, 4], weight=[1, 1]), torch.tensor([1.5, 2.0]))


def test_zero_tensors_give_zero() -> None:
    zero = torch.zeros(4)
    assert torch.equal(merge("multislerp", zero, zero, zero, weight=[1, 1, 1]), zero)


@pytest.mark.parametrize("size", [1.0, 2.0, 1.1])
def test_two_opposite_tensors_are_summed(size: float) -> None:
    """0.5 · x - 0.5 · size · x."""
    x = normal(100, 10)
    merged = merge("multislerp", x, -size * x, weight=[1, 1])
    assert torch.allclose(merged, (1 - size) / 2 * x, atol=1e-6)


def test_a_small_difference_of_directions_that_cancel_is_not_lost() -> None:
    """The directions differ from opposite ones by 1e-4 at a right angle, far below the rounding of dot products."""
    first, second = torch.tensor([1.0, 0]), torch.tensor([-1.0, 1e-4])
    merged = merge("multislerp", first, second, weight=[1, 1])
    assert torch.allclose(merged, torch.tensor([0.0, 1.0]), atol=1e-3)


def test_directions_of_three_that_cancel_are_an_error() -> None:
    models = [[1.0, 0], [-1.0, 0], [0, 0.0]]
    with pytest.raises(
        MergeError,
        match=r"tensor 'tensor': the weighted directions of the models cancel.*choose other weights",
    ):
        merge("multislerp", *models, weight=[1, 1, 1])


def test_weights_that_sum_to_zero_are_refused_unless_they_are_not_normalised() -> None:
    check_params = method_called("multislerp").check_params
    assert check_params is not None
    with pytest.raises(MergeError, match=r"weights sum to 0") as error:
        check_params(params_of("multislerp", weight=[1, -1]), 2)
    assert error.value.hint == "change a weight, or set normalize_weights: false"
    check_params(params_of("multislerp", weight=[1, -1], normalize_weights=False), 2)
