"""Numbers are rounded once to the output format, to nearest, ties to even."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor

from mergecore.engine.rounding import round_into


def rounded(numbers: Tensor, dtype: torch.dtype) -> Tensor:
    out = torch.empty_like(numbers, dtype=dtype)
    round_into(out, numbers)
    return out


def test_a_number_just_above_the_middle_is_rounded_up() -> None:
    """1 + 2^-8 is the middle between two bfloat16 numbers; by way of float32, 2^-40 more would be lost there."""
    numbers = torch.tensor([1 + 2**-8 + 2**-40, 1 + 2**-8, 1 + 2**-8 - 2**-40], dtype=torch.float64)
    assert rounded(numbers, torch.bfloat16).tolist() == [1 + 2**-7, 1, 1]
    assert rounded(-numbers, torch.bfloat16).tolist() == [-1 - 2**-7, -1, -1]
    numbers = torch.tensor([1 + 2**-11 + 2**-40, 1 + 2**-11, 1 + 3 * 2**-11], dtype=torch.float64)
    assert rounded(numbers, torch.float16).tolist() == [1 + 2**-10, 1, 1 + 2**-9]


finite = st.floats(allow_nan=False, allow_infinity=False)
near_middle = st.builds(
    lambda whole, shift, rest: (whole + 0.5) * 2.0**-shift + rest,
    st.integers(-300, 300),
    st.integers(0, 130),
    st.floats(-1e-12, 1e-12),
)


@given(finite | near_middle)
@example(65519.999999999)  # rounds down to the largest float16
@example(65520.0)  # is the middle to what would come next, so Inf
@example(2.0**-25)
@example(-0.0)
def test_float16_is_the_nearest(number: float) -> None:
    with np.errstate(over="ignore"):
        wanted = np.float64(number).astype(np.float16)
    found = rounded(torch.tensor([number], dtype=torch.float64), torch.float16).numpy()[0]
    assert found.tobytes() == wanted.tobytes()


@given(finite | near_middle)
@example(3.3961775292304957e38)  # the middle between the largest bfloat16 and what would come next
@example(2.0**-134)  # half of the smallest one
def test_bfloat16_is_the_nearest(number: float) -> None:
    found = rounded(torch.tensor([number], dtype=torch.float64), torch.bfloat16)
    assert found.item() == nearest(number)


def nearest(number: float) -> float:
    """The nearest number of 8 bits: all but 8 are cut off, and what is left over decides."""
    exponent = max(np.frexp(number)[1] - 8, -133)  # 2^-133 is the smallest bfloat16
    scaled = Fraction(number) / Fraction(2) ** int(exponent)
    result = Fraction(round(scaled)) * Fraction(2) ** int(exponent)  # Python rounds ties to even
    return float(result) if abs(result) < 2**128 else float("inf") * (1 if number > 0 else -1)


def test_what_is_not_finite_stays_so() -> None:
    numbers = torch.tensor([float("nan"), float("inf"), -float("inf"), 1e300], dtype=torch.float64)
    for dtype in (torch.bfloat16, torch.float16):
        assert str(rounded(numbers, dtype).tolist()) == "[nan, inf, -inf, inf]"


@pytest.mark.parametrize("source", [torch.float32, torch.float64])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_wider_formats_are_rounded_by_torch(source: torch.dtype, dtype: torch.dtype) -> None:
    numbers = torch.tensor([1 / 3, 1e-30, -2.5], dtype=source)
    assert rounded(numbers, dtype).equal(numbers.to(dtype))
