"""The weighted average."""

from __future__ import annotations

import pytest
import torch
from task_vectors import GOLDEN_WEIGHTS, close, golden, method_called
from torch import Tensor

from mergecore import MergeError
from mergecore.testing import run_method
from mergecore_plugins.methods.linear import LinearParams, check_params

LINEAR = method_called("linear")


def merged(weight: tuple[float, ...], *tensors: Tensor, normalize: bool = True) -> Tensor:
    return run_method(LINEAR, LinearParams(weight=weight, normalize=normalize), tensors)


def test_weights_are_shares() -> None:
    """(1 · 4 + 3 · 8) / 4 = 7, (1 · -2 + 3 · 2) / 4 = 1."""
    assert merged((1, 3), torch.tensor([4.0, -2]), torch.tensor([8.0, 2])).tolist() == [7, 1]


def test_without_normalize_the_weights_are_factors() -> None:
    numbers = torch.tensor([4.0, -2]), torch.tensor([8.0, 2])
    assert merged((1, 3), *numbers, normalize=False).tolist() == [28, 4]


def test_a_single_model_comes_out_as_it_is() -> None:
    numbers = torch.tensor([0.1, -2])
    assert merged((0.3,), numbers).equal(numbers)
    assert merged((0.5,), numbers, normalize=False).equal(numbers / 2)


def test_weights_may_be_negative() -> None:
    assert merged((2, -1), torch.tensor([3.0]), torch.tensor([5.0])).tolist() == [1]


def test_three_thirds_of_a_narrow_number_are_the_number() -> None:
    """In bfloat16 arithmetic the thirds would add up to 1.00195."""
    numbers = torch.linspace(-3, 3, 999).bfloat16()
    assert merged((1 / 3,) * 3, numbers, numbers, numbers).bfloat16().equal(numbers)
    assert merged((1 / 3,) * 3, numbers, numbers, numbers, normalize=False).bfloat16().equal(numbers)


@pytest.mark.parametrize("weight", [(1, -1), (0, 0), (0.1, 0.2, -0.3)])
def test_weights_that_sum_to_0_cannot_be_normalised(weight: tuple[float, ...]) -> None:
    """0.1 + 0.2 - 0.3 is 5.6e-17 in floating point."""
    with pytest.raises(
        MergeError, match=r"the weights sum to 0 \(.*\), so they cannot be normalised"
    ) as caught:
        check_params(LinearParams(weight=weight), len(weight))
    assert caught.value.code == "E404"
    assert "normalize: false" in str(caught.value)
    check_params(LinearParams(weight=weight, normalize=False), len(weight))


@pytest.mark.parametrize(
    ("normalize", "digits"),
    [
        (
            True,
            "0.513836 0.303999 -0.125684 -0.442117 -0.438853 -0.185090 "
            "0.311008 0.513937 0.306904 -0.136482 -0.454503 -0.430159",
        ),
        (
            False,
            "0.616604 0.364799 -0.150820 -0.530540 -0.526623 -0.222108 "
            "0.373210 0.616724 0.368285 -0.163779 -0.545403 -0.516191",
        ),
    ],
)
def test_golden_numbers_come_out(normalize: bool, digits: str) -> None:
    base, deltas = golden()
    assert close(merged(GOLDEN_WEIGHTS, *(base + one for one in deltas), normalize=normalize), digits)
