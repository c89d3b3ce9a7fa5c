"""How far a merge is from the exact result rounded once."""

from __future__ import annotations

import pytest
import torch
from benchmarks.accuracy import error_ratio

EXACT = {"x": torch.tensor([1.0, 1.001], dtype=torch.float64)}  # bf16 has 1 and 1.0078 there
SELECTED = {"x": torch.tensor([1.0, 2.0], dtype=torch.float64)}


@pytest.mark.parametrize(
    ("merged", "exact", "ratio"),
    [
        ([1.0, 1.0], EXACT, 1),
        ([1.0, 1.0078125], EXACT, pytest.approx(6.8125)),
        ([1.0, 2.0], SELECTED, 1),
        ([2.0, 2.0], SELECTED, 1.5),
    ],
)
def test_the_error_is_measured_in_that_of_rounding(
    merged: list[float], exact: dict[str, torch.Tensor], ratio: float
) -> None:
    assert error_ratio({"x": torch.tensor(merged, dtype=torch.bfloat16)}, exact) == ratio
