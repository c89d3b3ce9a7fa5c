"""DELLA: keep probabilities that rise with the rank in the row."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from task_vectors import merged, method_called
from torch import Tensor

from mergecore import ConfigError
from mergecore.compute.philox import random_key, random_words, uniform
from mergecore_plugins.methods.common.pre import ascending, keep_probabilities

EIGHT = torch.tensor([[0.0, -8, 4, 2], [5, 5, -5, 6]])


def drawn(slot: int, count: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(uniform(random_words(random_key(seed, "tensor", str(slot), "uniform"), 0, count)))


def test_probabilities_rise_in_equal_steps_with_the_magnitude() -> None:
    """Ranks 0 3 2 1, and 0 1 2 3 with equal ones by position; 0.4 + 0.2 · rank / 3."""
    keep = keep_probabilities(EIGHT, density=0.5, epsilon=0.1)
    assert torch.allclose(keep, torch.tensor([[12, 18, 16, 14], [12, 14, 16, 18]]) / 30)


def test_the_only_entry_of_a_row_is_kept_with_the_density() -> None:
    assert keep_probabilities(torch.ones(3, 1), 0.25, 0.1).tolist() == [[0.25]] * 3


def test_every_entry_is_divided_by_its_own_probability() -> None:
    keep = keep_probabilities(EIGHT, 0.5, 0.2)
    mask = drawn(0, 8).view(2, 4) < keep
    result = merged("della", EIGHT, weight=1, density=0.5, epsilon=0.2)
    assert torch.equal(result, EIGHT * mask / keep)
    left = merged("della", EIGHT, weight=1, density=0.5, epsilon=0.2, rescale=False)
    assert torch.equal(left, EIGHT * mask)


def test_rescale_l1_restores_the_norm_of_the_tensor() -> None:
    result = merged("della", EIGHT, weight=1, density=0.5, epsilon=0.2, rescale="l1")
    left = merged("della", EIGHT, weight=1, density=0.5, epsilon=0.2, rescale=False)
    assert torch.allclose(result, left * (35 / left.abs().sum()))


def test_what_agrees_is_averaged() -> None:
    """1 and 3 with weights 1 and 3: 10/4; 1 against 3 · -1: -1, lambda halves."""
    options = {"weight": [1, 3], "lambda": 0.5}
    assert merged("della", [1.0, 1], [3.0, -1], **options).tolist() == [1.25, -0.5]


def test_a_vector_is_one_row_and_the_last_axis_of_experts_is_ranked() -> None:
    x = torch.randn(2, 3, 50, generator=torch.Generator().manual_seed(3))
    options = {"weight": 1, "density": 0.5, "epsilon": 0.4}
    rows = merged("della", x.view(6, 50), **options)
    assert torch.equal(merged("della", x, **options), rows.view(2, 3, 50))
    vector = merged("della", x.view(300), **options)
    assert torch.equal(vector, merged("della", x.view(1, 300), **options).view(300))
    assert not torch.equal(vector, rows.view(300))


def test_kept_fractions_are_the_probabilities_of_the_ranks() -> None:
    """Columns of equal rank in 20000 rows, within five standard deviations."""
    x = torch.tensor([1.0, 2, 3, 4, 5]).expand(20000, 5)
    kept = merged("della", x, weight=1, density=0.5, epsilon=0.3, rescale=False) != 0
    wanted = torch.tensor([0.2, 0.35, 0.5, 0.65, 0.8])
    assert torch.allclose(kept.double().mean(0).float(), wanted, atol=5 * (0.25 / 20000) ** 0.5)


def test_the_mean_over_seeds_is_what_was_there_before() -> None:
    """The least likely entry is kept with 0.2: 0 or 5, a standard deviation of 2, of 0.1 for 400 draws."""
    x = torch.tensor([1.0, -2, 3, -4])
    total = sum(merged("della", x, weight=1, density=0.5, epsilon=0.3, seed=seed) for seed in range(400))
    assert isinstance(total, Tensor)
    assert torch.allclose(total / 400 / x, torch.ones(4), atol=0.5)


def test_one_more_model_leaves_the_masks_of_the_others() -> None:
    x = torch.randn(40, 30, generator=torch.Generator().manual_seed(0))
    options = {"density": 0.5, "epsilon": 0.2, "normalize": False, "rescale": False}
    alone = merged("della", x, weight=1, **options)
    assert torch.equal(merged("della", x, x.T.reshape(40, 30), weight=[1, 0], **options), alone)


def test_density_1_is_ties_without_trimming_whatever_epsilon() -> None:
    rows = torch.randn(3, 20, 30, generator=torch.Generator().manual_seed(0))
    options = {"weight": [0.5, 0.3, 0.4]}
    assert torch.equal(merged("della", *rows, epsilon=0.1, **options), merged("ties", *rows, **options))


def test_density_0_leaves_the_base() -> None:
    base = torch.tensor([0.1, -3.0])
    for rescale in (True, False, "l1"):
        result = merged("della", [1.0, 2], base=base, weight=1, density=0, rescale=rescale)
        assert torch.equal(result, base)


@pytest.mark.parametrize(
    ("density", "epsilon", "told"),
    [
        (0.9, 0.15, "epsilon 0.15 with density 0.9 gives keep probabilities from 0.75 to 1.05"),
        (0.1, 0.1, "epsilon 0.1 with density 0.1 gives keep probabilities from 0 to 0.2"),
    ],
)
def test_probabilities_must_lie_between_0_and_1(density: float, epsilon: float, told: str) -> None:
    for name in ("della", "della_linear"):
        method = method_called(name)
        assert method.check_params
        params = method.params.model_validate({"weight": 1, "density": [1, density], "epsilon": epsilon})
        with pytest.raises(ConfigError, match=told) as caught:
            method.check_params(params, 2)
        assert caught.value.code == "E105"
        assert caught.value.hint == "choose an epsilon below 0.1"


@given(st.integers(1, 6), st.integers(1, 40), st.integers(0, 99), st.booleans())
def test_the_order_is_that_of_a_stable_sort(rows: int, columns: int, seed: int, wide: bool) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randint(-3, 4, (rows, columns), generator=generator) * 0.5
    found = ascending(x.double() if wide else x)
    assert torch.equal(found, x.abs().sort(dim=-1, stable=True).indices)


def test_zeros_of_both_signs_and_the_smallest_numbers_are_in_order() -> None:
    x = torch.tensor([[1e-45, -0.0, 3e38, 0.0, -1e-45, -3e38]])
    assert ascending(x).tolist() == [[1, 3, 0, 4, 2, 5]]
