"""RAM: the mean over those models that change an element."""

from __future__ import annotations

import torch
from merging import golden_models, merge, normal
from task_vectors import close

DIGITS = (
    "0.507083 0.310385 -0.120576 -0.449819 -0.441976 -0.163120 "
    "0.311940 0.505190 0.308227 -0.128077 -0.457992 -0.437666"
)


def test_what_one_model_changes_is_taken_over_and_what_several_change_is_averaged() -> None:
    """Changed by both, by the first, by the second, by none; then by both, in opposite directions."""
    merged = merge("ram", [1.0, 2, 0, 0, 2], [3.0, 0, 4, 0, -1], base=torch.zeros(5))
    assert merged.tolist() == [2, 2, 4, 0, 0.5]


def test_a_change_of_epsilon_counts_as_none() -> None:
    """0.25 is not above 0.25, -0.5 is; of a change of 0.25 beside 1, nothing is averaged in."""
    merged = merge("ram", [0.25, -0.5, 1.0], [0.0, 0.0, 0.25], base=torch.zeros(3), epsilon=0.25)
    assert merged.tolist() == [0, -0.5, 1]


def test_the_golden_row() -> None:
    base, *models = golden_models(0, 1, 2, 3)
    assert close(merge("ram", *models, base=base), DIGITS)


def test_one_model_comes_out_but_for_its_smallest_changes() -> None:
    base = normal(30)
    assert torch.allclose(merge("ram", base + normal(30, seed=1), base=base), base + normal(30, seed=1))
