"""Task arithmetic: the base plus a weighted sum of differences to it."""

from __future__ import annotations

import pytest
import torch
from task_vectors import GOLDEN_WEIGHTS, close, golden, merged


def test_weighted_task_vectors_are_added_to_the_base() -> None:
    """10 + (2 · 1 - 3) / 2 and 20 + (2 · -4 - 5) / 2."""
    base = torch.tensor([10.0, 20])
    result = merged("task_arithmetic", [1.0, -4], [3.0, 5], base=base, weight=[2, -1], **{"lambda": 0.5})
    assert result.tolist() == [9.5, 13.5]


def test_normalize_divides_by_the_sum_of_the_weights() -> None:
    assert merged("task_arithmetic", [1.0], [5.0], weight=[3, 1], normalize=True).tolist() == [2]


GOLDEN = [
    (
        {"lambda": 0.5},
        "0.508302 0.306722 -0.120851 -0.446085 -0.442663 -0.153213 "
        "0.313544 0.508334 0.305813 -0.130598 -0.454928 -0.435934",
    ),
    (
        {"normalize": True},
        "0.513836 0.303999 -0.125684 -0.442117 -0.438853 -0.185090 "
        "0.311008 0.513937 0.306904 -0.136482 -0.454503 -0.430159",
    ),
]


@pytest.mark.parametrize(("options", "digits"), GOLDEN)
def test_golden_numbers_come_out(options: dict[str, float], digits: str) -> None:
    base, deltas = golden()
    assert close(merged("task_arithmetic", *deltas, base=base, weight=GOLDEN_WEIGHTS, **options), digits)
