"""Breadcrumbs: what lies between the largest and the smallest magnitudes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from task_vectors import GOLDEN_WEIGHTS, close, golden, merged, method_called
from torch import Tensor

from mergecore.testing import run_method
from mergecore_plugins.methods.common.magnitude import band_counts

TEN = torch.tensor([1.0, -2, 3, -4, 5, -6, 7, -8, 9, -10])


def sorted_out(x: Tensor, density: float, gamma: float) -> Tensor:
    """The same by a stable sort, largest first."""
    order = np.argsort(-x.abs().numpy(), kind="stable")
    kept = int(density * len(x))
    top = min(int(gamma * len(x)), len(x) - kept)
    result = torch.zeros_like(x)
    place = torch.from_numpy(order[top : top + kept].copy())
    result[place] = x[place]
    return result


def test_the_largest_and_the_smallest_are_left_out() -> None:
    """Of ten the two largest go, then four are kept: 8 7 6 5."""
    result = merged("breadcrumbs", TEN, weight=2, density=0.4, gamma=0.2)
    assert result.tolist() == [0, 0, 0, 0, 10, -12, 14, -16, 0, 0]


def test_task_vectors_are_added_up() -> None:
    """Three of four after the largest: 1 2 3 . and . 3 2 1; times weights 1 and 10."""
    options = {"weight": [1, 10], "density": 0.75, "gamma": 0.25}
    assert merged("breadcrumbs", [1.0, 2, 3, 4], [4.0, 3, 2, 1], **options).tolist() == [1, 32, 23, 10]


def test_each_model_has_a_density_and_a_gamma_of_its_own() -> None:
    options = {"weight": [1, 1], "density": [0.5, 0.25], "gamma": [0, 0.25]}
    assert merged("breadcrumbs", [1.0, 2, 3, 4], [10.0, 20, 30, 40], **options).tolist() == [0, 0, 33, 4]


def test_rescale_restores_the_norm() -> None:
    """26 of 55 are left."""
    for rescale in (True, "l1"):
        result = merged("breadcrumbs", TEN, weight=1, density=0.4, gamma=0.2, rescale=rescale)
        assert result.abs().sum().item() == pytest.approx(55)
        assert result[5].item() == pytest.approx(-6 * 55 / 26)


def test_the_sum_is_normalised_and_scaled() -> None:
    options = {"weight": [1, 3], "normalize": True, "lambda": 2}
    assert merged("breadcrumbs", [2.0], [6.0], **options).tolist() == [10]


@pytest.mark.parametrize(
    ("density", "gamma", "count", "counts"),
    [
        (0.9, 0.01, 1000, (910, 10)),
        (0.995, 0.01, 1000, (1000, 5)),  # only 5 can be left out when 995 are kept
        (0.5, 0.01, 50, (25, 0)),  # a hundredth of 50 is nothing
        (0.5, 0, 50, (25, 0)),
        (1, 0.01, 50, (50, 0)),
        (0, 0.5, 50, (25, 25)),
        (0.2, 1, 50, (50, 40)),
        (0.9, 0.1, 1, (0, 0)),
    ],
)
def test_how_many_are_kept_is_exact(
    density: float, gamma: float, count: int, counts: tuple[int, int]
) -> None:
    assert band_counts(density, gamma, count) == counts
    x = torch.randn(count, generator=torch.Generator().manual_seed(0))
    result = merged("breadcrumbs", x, weight=1, density=density, gamma=gamma)
    assert int(torch.count_nonzero(result)) == counts[0] - counts[1]


@given(st.lists(st.integers(-4, 4), min_size=1, max_size=40), st.floats(0, 1), st.floats(0, 1))
def test_equal_magnitudes_go_by_position(numbers: list[int], density: float, gamma: float) -> None:
    x = torch.tensor(numbers, dtype=torch.float32)
    result = merged("breadcrumbs", x, weight=1, density=density, gamma=gamma)
    assert torch.equal(result, sorted_out(x, density, gamma))


def test_bands_go_across_blocks() -> None:
    """Two and a bit blocks of few magnitudes, in any order."""
    x = torch.randint(-9, 10, (600_000,), generator=torch.Generator().manual_seed(0)) / 4
    result = merged("breadcrumbs", x, weight=1, density=0.55, gamma=0.12)
    assert torch.equal(result, sorted_out(x, 0.55, 0.12))
    method = method_called("breadcrumbs")
    params = method.params.model_validate({"weight": 1, "density": 0.55, "gamma": 0.12})
    backwards = run_method(method, params, [x], torch.zeros_like(x), order=lambda count: range(count)[::-1])
    assert torch.equal(backwards, result)


def test_density_1_is_task_arithmetic() -> None:
    x = torch.randn(3, 200, generator=torch.Generator().manual_seed(0))
    assert torch.equal(merged("breadcrumbs", *x, weight=0.5), merged("task_arithmetic", *x, weight=0.5))


def test_density_0_leaves_the_base() -> None:
    base = torch.tensor([0.1, -3.0])
    for rescale in (True, False):
        options = {"weight": 1, "density": 0, "rescale": rescale}
        assert torch.equal(merged("breadcrumbs", [1.0, 2], base=base, **options), base)


def test_golden_numbers_come_out() -> None:
    base, deltas = golden()
    result = merged("breadcrumbs", *deltas, base=base, weight=GOLDEN_WEIGHTS, density=0.5, gamma=0.2)
    assert close(
        result,
        "0.504851 0.284636 -0.123091 -0.463287 -0.460863 -0.090930 "
        "0.317346 0.507812 0.311895 -0.157294 -0.454131 -0.409443",
    )
