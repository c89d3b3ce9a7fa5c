"""A point on the arc between two tensors."""

from __future__ import annotations

import math

import pytest
import torch
from task_vectors import close, golden, method_called
from torch import Tensor

from mergecore import ConfigError, MergeError
from mergecore.testing import run_method
from mergecore_plugins.methods.slerp import SlerpParams, check_params, position

SLERP = method_called("slerp")


def merged(t: float, base: list[float] | Tensor, other: list[float] | Tensor) -> Tensor:
    return run_method(SLERP, SlerpParams(t=t), [torch.as_tensor(base), torch.as_tensor(other)])


def near(*numbers: float) -> object:
    return pytest.approx(numbers, rel=1e-6, abs=1e-7)


@pytest.mark.parametrize(("t", "degrees"), [(0, 0), (1 / 3, 30), (0.5, 45), (1, 90)])
def test_t_divides_the_angle(t: float, degrees: float) -> None:
    """From (1, 0) to (0, 1) it is a right angle."""
    angle = math.radians(degrees)
    assert merged(t, [1.0, 0], [0.0, 1]).tolist() == near(math.cos(angle), math.sin(angle))


def test_factors_are_for_the_tensors_as_they_are() -> None:
    """At half of 60 degrees both factors are sin 30 / sin 60 = 1/√3; lengths 1 and 4 are not made equal."""
    found = merged(0.5, [1.0, 0], [2.0, 2 * math.sqrt(3)])
    assert found.tolist() == near(3 / math.sqrt(3), 2)


def test_a_tensor_is_one_vector_whatever_its_shape() -> None:
    base, other = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    flat = merged(0.3, base.flatten(), other.flatten())
    assert merged(0.3, base, other).flatten().equal(flat)


@pytest.mark.parametrize("t", [-0.5, 1.5])
def test_t_may_lie_outside(t: float) -> None:
    """45 degrees before the one, or after the other."""
    angle = t * math.pi / 2
    assert merged(t, [1.0, 0], [0.0, 1]).tolist() == near(math.cos(angle), math.sin(angle))


def test_nearly_parallel_tensors_are_averaged_along_the_line() -> None:
    assert merged(0.25, [1.0, 0], [2.0, 0.02]).tolist() == near(1.25, 0.005)


def test_opposite_tensors_are_averaged_along_the_line() -> None:
    """0.7 v - 0.3 v."""
    assert merged(0.3, [1.0, 2], [-1.0, -2]).tolist() == near(0.4, 0.8)


def test_a_tensor_of_zeros_stands_at_a_right_angle() -> None:
    factor = math.sin(0.3 * math.pi / 2)  # 0.453990
    assert merged(0.3, [0.0, 0], [1.0, -2]).tolist() == near(factor, -2 * factor)
    assert merged(0.3, [0.0, 0], [0.0, 0]).tolist() == [0, 0]


def test_narrow_tensors_are_rounded_once() -> None:
    numbers = torch.linspace(-3, 3, 999).bfloat16()
    assert merged(0.3, numbers, numbers).bfloat16().equal(numbers)


def test_large_and_small_tensors_have_the_same_angle() -> None:
    base, other = torch.randn(2, 50, generator=torch.Generator().manual_seed(1))
    plain = merged(0.3, base, other)
    for scale in (2.0**60, 2.0**100):
        assert (merged(0.3, base * scale, other * scale) / scale).allclose(plain, rtol=1e-5)


def test_golden_numbers_come_out() -> None:
    base, deltas = golden()
    digits = (
        "0.509022 0.296216 -0.117062 -0.437214 -0.451358 -0.170791 "
        "0.324006 0.516706 0.296091 -0.134703 -0.444854 -0.437066"
    )
    assert close(merged(0.3, base, base + deltas[0]), digits)


# ---- weights in place of t ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("weight", "t"), [((1, 1), 0.5), ((1, 3), 0.75), ((None, 0.4), 1), ((0.4, None), 0), ((2, 0), 0)]
)
def test_weights_are_shares_of_the_arc(weight: tuple[float | None, float | None], t: float) -> None:
    params = SlerpParams(weight=weight)
    check_params(params, 2)
    assert position(params) == t


def test_t_goes_before_weights() -> None:
    assert position(SlerpParams(t=0.1, weight=(1, 1))) == 0.1


def test_without_t_and_weights_there_is_no_position() -> None:
    with pytest.raises(ConfigError, match=r"slerp needs 't'.*parameters: \{t: 0\.5\}") as caught:
        check_params(SlerpParams(), 2)
    assert caught.value.code == "E105"


def test_weights_that_sum_to_0_are_no_position() -> None:
    with pytest.raises(MergeError, match="the weights sum to 0") as caught:
        check_params(SlerpParams(weight=(1, -1)), 2)
    assert caught.value.code == "E404"
