"""DARE: random masks, and what makes up for what they drop."""

from __future__ import annotations

import pytest
import torch
from task_vectors import merged

from mergecore.compute.philox import mask, random_key, random_words

MANY = torch.ones(300, 1000)


def kept(slot: int, density: float, count: int, seed: int = 0, tensor: str = "tensor") -> torch.Tensor:
    """The mask by its definition."""
    key = random_key(seed, tensor, str(slot), "mask")
    return torch.from_numpy(mask(random_words(key, 0, count), density))


def test_what_is_kept_is_divided_by_the_density() -> None:
    """Density 1/4 makes 8 of 2, weight 1/2 makes 4 of that."""
    result = merged("dare_linear", torch.full((40,), 2.0), weight=0.5, density=0.25)
    assert result.tolist() == [4 * keep for keep in kept(0, 0.25, 40).tolist()]
    assert {0, 4} == set(result.tolist())


def test_each_model_has_a_mask_and_a_density_of_its_own() -> None:
    result = merged("dare_linear", torch.ones(50), torch.full((50,), 10.0), weight=[1, 1], density=[0.5, 0.2])
    assert torch.equal(result, 2 * kept(0, 0.5, 50) + 50 * kept(1, 0.2, 50).float())


def test_without_rescale_the_kept_entries_stay_as_they_are() -> None:
    result = merged("dare_linear", torch.full((40,), 3.0), weight=1, density=0.5, rescale=False)
    assert torch.equal(result, 3.0 * kept(0, 0.5, 40))


def test_rescale_l1_restores_the_norm_of_each_task_vector() -> None:
    x = torch.tensor([1.0, -2, 3, -4, 5, -6, 7, -8])
    left = x * kept(0, 0.5, 8)
    factor = 36 / left.abs().sum()
    result = merged("dare_linear", x, weight=1, density=0.5, rescale="l1")
    assert torch.allclose(result, left * factor, rtol=1e-6)
    assert result.abs().sum().item() == pytest.approx(36)


def test_the_sum_is_divided_by_the_weights_when_normalised() -> None:
    """(3 · 1 + 1 · 5) / 4 = 2, times lambda 10."""
    options = {"weight": [3, 1], "normalize": True, "lambda": 10}
    assert merged("dare_linear", [1.0], [5.0], **options).tolist() == [20]


def test_weights_that_are_all_0_leave_the_base() -> None:
    base = torch.tensor([7.0])
    assert merged("dare_linear", [1.0], [5.0], base=base, weight=[0, 0], normalize=True).tolist() == [7]


def test_weights_that_cancel_divide_nothing() -> None:
    """1 · 3 - 1 · 1 = 2; 0.1 + 0.2 - 0.3 is 0 but for rounding: 0.3 + 0.6 - 0.3."""
    assert merged("dare_linear", [3.0], [1.0], weight=[1, -1], normalize=True).tolist() == [2]
    result = merged("dare_linear", [3.0], [3.0], [1.0], weight=[0.1, 0.2, -0.3], normalize=True)
    assert torch.allclose(result, torch.tensor([0.6]))


@pytest.mark.parametrize("density", [0.01, 0.1, 0.5, 0.9])
def test_the_kept_fraction_is_the_density(density: float) -> None:
    """Within five standard deviations of 300000 draws."""
    result = merged("dare_linear", MANY, weight=1, density=density, rescale=False)
    assert result.mean().item() == pytest.approx(density, abs=5 * (density * (1 - density) / 3e5) ** 0.5)


def test_the_mean_over_seeds_is_what_was_there_before() -> None:
    """400 draws of 0 or 10/3 have a mean of 1, with a standard deviation of 0.076."""
    x = torch.tensor([1.0, -1.0, 1.0, 1.0])
    total = sum(merged("dare_linear", x, weight=1, density=0.3, seed=seed) for seed in range(400))
    assert isinstance(total, torch.Tensor)
    assert torch.allclose(total / 400, x, atol=5 * 0.076)


def test_another_seed_another_tensor_and_another_slot_have_other_masks() -> None:
    first = merged("dare_linear", MANY, weight=1, density=0.5)
    assert not torch.equal(merged("dare_linear", MANY, weight=1, density=0.5, seed=1), first)
    assert not torch.equal(merged("dare_linear", MANY, weight=1, density=0.5, tensor="other"), first)
    assert not torch.equal(merged("dare_linear", 0 * MANY, MANY, weight=1, density=0.5), first)


def test_one_more_model_leaves_the_masks_of_the_others() -> None:
    two = merged("dare_linear", MANY, 10 * MANY, weight=1, density=0.5)
    three = merged("dare_linear", MANY, 10 * MANY, 100 * MANY, weight=1, density=0.5)
    assert torch.equal(three % 100, two)


def test_a_model_of_density_1_is_not_drawn_for() -> None:
    result = merged("dare_linear", MANY, 10 * MANY, weight=1, density=[0.5, 1])
    assert torch.equal(result, merged("dare_linear", MANY, weight=1, density=0.5) + 10)


def test_density_0_leaves_the_base() -> None:
    base = torch.tensor([0.1, -3.0])
    for rescale in (True, False, "l1"):
        result = merged("dare_linear", [1.0, 2], base=base, weight=1, density=0, rescale=rescale)
        assert torch.equal(result, base)
