"""NuSLERP: arcs between whole tensors, rows or columns, with and without a base."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from merging import golden_models, merge, normal
from task_vectors import close

from mergecore.compute import group

GOLDEN = {
    (): "0.466168 0.318130 -0.078284 -0.469694 -0.484050 -0.124291 "
    "0.346208 0.473949 0.287432 -0.088177 -0.448800 -0.484876",
    ("nuslerp_flatten",): "0.464760 0.317234 -0.078024 -0.468362 -0.485754 -0.124892 "
    "0.347437 0.475703 0.286181 -0.087716 -0.446859 -0.482812",
    ("nuslerp_flatten", "nuslerp_row_wise"): "0.463366 0.331467 -0.077774 -0.468131 -0.481260 -0.131688 "
    "0.344225 0.472258 0.285769 -0.092784 -0.446256 -0.483259",
}
ROWS: dict[str, Any] = {"nuslerp_flatten": False}
COLUMNS: dict[str, Any] = {"nuslerp_flatten": False, "nuslerp_row_wise": True}


def test_halfway_between_right_angles_is_the_diagonal() -> None:
    """sin(45°) / sin(90°) of both: 0.7071 of each."""
    merged = merge("nuslerp", [1.0, 0], [0, 2.0], weight=[3, 3])
    assert torch.allclose(merged, torch.tensor([1, 2]) * math.sqrt(0.5))


def test_the_weights_divide_the_angle() -> None:
    """One to two of 90°: 60° from the first, so sin(30°) of the first and sin(60°) of the second."""
    merged = merge("nuslerp", [1.0, 0], [0, 1.0], weight=[1, 2])
    assert torch.allclose(merged, torch.tensor([0.5, math.sqrt(0.75)]))


@pytest.mark.parametrize("options", GOLDEN)
def test_the_golden_rows_without_a_base(options: tuple[str, ...]) -> None:
    first, second = golden_models(1, 2)
    flags: dict[str, Any] = {option: option == "nuslerp_row_wise" for option in options}
    assert close(merge("nuslerp", first, second, weight=[0.25, 0.75], **flags), GOLDEN[options])


def test_the_golden_row_with_a_base() -> None:
    base, first, second = golden_models(0, 1, 2)
    digits = (
        "0.444891 0.307305 -0.057591 -0.462970 -0.501572 -0.182715 "
        "0.364190 0.463218 0.266792 -0.075427 -0.430125 -0.497496"
    )
    assert close(merge("nuslerp", first, second, base=base, weight=[0.25, 0.75]), digits)


@pytest.mark.parametrize("factor", [1.0, 2.0, -1.0, -1.1])
@pytest.mark.parametrize("options", [{}, ROWS, COLUMNS])
def test_between_parallel_and_between_opposite_vectors_the_line_is_straight(
    factor: float, options: dict[str, Any]
) -> None:
    x = normal(5, 4)
    merged = merge("nuslerp", x, factor * x, weight=[0.7, 0.3], **options)
    assert torch.allclose(merged, (0.7 + 0.3 * factor) * x, atol=1e-6)


def test_a_zero_vector_stands_at_a_right_angle() -> None:
    """sin(0.3 · 90°) of the other."""
    x = normal(10)
    merged = merge("nuslerp", torch.zeros(10), x, weight=[0.7, 0.3])
    assert torch.allclose(merged, math.sin(0.3 * math.pi / 2) * x)


def test_rows_are_vectors_of_their_own() -> None:
    """The first rows are parallel and meet halfway; the second ones at right angles."""
    merged = merge("nuslerp", [[1.0, 0.0], [1.0, 0.0]], [[3.0, 0.0], [0.0, 1.0]], weight=[1, 1], **ROWS)
    half = math.sqrt(0.5)
    assert torch.allclose(merged, torch.tensor([[2, 0], [half, half]]))


def test_columns_are_rows_of_the_transposed_tensor() -> None:
    first, second = normal(60, 70, seed=1), normal(60, 70, seed=2)
    by_rows = merge("nuslerp", first.T.contiguous(), second.T.contiguous(), weight=[1, 2], **ROWS)
    by_columns = merge("nuslerp", first, second, weight=[1, 2], **COLUMNS)
    assert torch.allclose(by_columns, by_rows.T, atol=1e-6)


@pytest.mark.parametrize("shape", [(2, 3, 4), (1, 5, 6), (3, 1, 2)])
def test_columns_of_a_stack_run_along_its_first_axis(shape: tuple[int, ...]) -> None:
    first, second = normal(*shape, seed=1), normal(*shape, seed=2)
    flat = [one.view(shape[0], -1) for one in (first, second)]
    stacked = merge("nuslerp", first, second, weight=[1, 2], **COLUMNS)
    assert torch.allclose(stacked.view(shape[0], -1), merge("nuslerp", *flat, weight=[1, 2], **COLUMNS))


@pytest.mark.parametrize("options", [ROWS, COLUMNS])
def test_a_vector_is_one_vector_whatever_is_asked_for(options: dict[str, Any]) -> None:
    first, second = normal(30, seed=1), normal(30, seed=2)
    whole = merge("nuslerp", first, second, weight=[1, 2])
    assert torch.equal(merge("nuslerp", first, second, weight=[1, 2], **options), whole)


@pytest.mark.parametrize("options", [{}, ROWS, COLUMNS])
@pytest.mark.parametrize("shape", [(40, 30), (3, 20, 20)])
def test_blocks_change_nothing_but_the_last_digits(
    monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], shape: tuple[int, ...]
) -> None:
    models = normal(*shape, seed=1), normal(*shape, seed=2)
    whole = merge("nuslerp", *models, weight=[1, 2], **options)
    monkeypatch.setattr(group, "BLOCK", 70)
    assert torch.allclose(merge("nuslerp", *models, weight=[1, 2], **options), whole, atol=1e-6)


@pytest.mark.parametrize("weight", [(0.0, 0.0), (1.0, -1.0), (-0.3, 0.3)])
def test_weights_that_sum_to_0_lead_half_the_way(weight: tuple[float, float]) -> None:
    """sin(45°) / sin(90°) of both: 0.7071 of each, of the tensors or of their changes."""
    half = math.sqrt(0.5)
    assert torch.allclose(
        merge("nuslerp", [1.0, 0], [0, 2.0], weight=list(weight)), torch.tensor([half, 2 * half])
    )
    changed = merge("nuslerp", [2.0, 1], [1, 3.0], base=[1.0, 1], weight=list(weight))
    assert torch.allclose(changed, torch.tensor([1 + half, 1 + 2 * half]))
