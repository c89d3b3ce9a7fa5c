"""SCE: select, calculate, erase."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from merging import golden_models, merge, normal, params_of
from pydantic import ValidationError
from task_vectors import close
from torch import Tensor

from mergecore.compute import group
from mergecore_plugins.methods.sce import variance

ZERO = torch.zeros(4)


def test_models_count_with_their_share_of_the_squares_and_minorities_are_erased() -> None:
    """Squares 3 and 11, so weights 3/14 and 11/14; (3 + 33)/14; 1 against -1 elects plus; both are -1."""
    merged = merge("sce", [1.0, 1, -1, 0], [3.0, -1, -1, 0], base=ZERO)
    assert torch.allclose(merged, torch.tensor([36 / 14, 1, -1, 0]))


@pytest.mark.parametrize(
    ("options", "digits"),
    [
        (
            {},
            "0.533017 0.258467 -0.139234 -0.397116 -0.383424 -0.258122 "
            "0.253931 0.541091 0.361841 -0.161840 -0.481203 -0.408282",
        ),
        (
            {"select_topk": 0.5},
            "0.529164 0.310805 -0.132910 -0.452036 -0.448379 -0.283516 "
            "0.317346 0.544353 0.304176 -0.162341 -0.455565 -0.410575",
        ),
    ],
)
def test_the_golden_rows(options: dict[str, Any], digits: str) -> None:
    base, *models = golden_models(0, 1, 2, 3)
    assert close(merge("sce", *models, base=base, **options), digits)


def test_elements_that_vary_most_are_selected_among_those_that_vary() -> None:
    """Three elements vary, 0.7 of them are two: those with 2 and 3; the first model has a weight of 0."""
    merged = merge("sce", [0.0, 0, 0, 0, 5], [1.0, 2, 3, 0, 5], base=torch.zeros(5), select_topk=0.7)
    assert merged.tolist() == [0, 2, 3, 0, 0]


def test_of_equal_variances_the_first_are_selected() -> None:
    merged = merge("sce", torch.zeros(8), torch.ones(8), base=torch.zeros(8), select_topk=0.5)
    assert merged.tolist() == [1, 1, 1, 1, 0, 0, 0, 0]


@pytest.mark.parametrize("size", [1e-30, 1e-4, 1.0, 1e15])
def test_weights_do_not_depend_on_the_size_of_the_task_vectors(size: float) -> None:
    """Squares 1 and 25: (1 · 1 + 25 · 5) / 26."""
    merged = merge("sce", torch.full((4,), size), torch.full((4,), 5 * size), base=ZERO)
    assert torch.allclose(merged / size, torch.full((4,), 126 / 26))


def test_a_small_minority_vote_is_damped() -> None:
    """The model that stands alone in the first element has 1e-10 of the squares, and 1e-6 is the least divisor."""
    merged = merge("sce", [1e-5, 0], [0, 1.0], base=torch.zeros(2))
    assert torch.allclose(merged, torch.tensor([1e-9, 1.0]), rtol=1e-3, atol=0)


@pytest.mark.parametrize("select_topk", [0.0, 0.5, 1.0])
def test_models_equal_to_the_base_give_the_base(select_topk: float) -> None:
    base = normal(5, 6)
    merged = merge("sce", base, base, base, base=base, select_topk=select_topk)
    assert torch.equal(merged, base)


@pytest.mark.parametrize(("select_topk", "expected"), [(0.0, 0.0), (0.2, 0.0), (1.0, 3.0)])
def test_nothing_is_selected_where_models_are_the_same(select_topk: float, expected: float) -> None:
    model = torch.full((4,), 3.0)
    merged = merge("sce", model, model, base=ZERO, select_topk=select_topk)
    assert merged.tolist() == [expected] * 4


def plainly(models: list[Tensor], base: Tensor, select_topk: float) -> Tensor:
    """The same in float64 on whole tensors, with a sort."""
    d = (torch.stack(models) - base).flatten(1)
    spread = d.double().var(0, correction=0).float()
    k = int(int((spread > 0).sum()) * select_topk)
    kept = torch.zeros_like(spread).double()
    kept[spread.sort(descending=True, stable=True).indices[:k]] = 1
    selected = d.double() * kept
    weights = selected.square().sum(1)
    weights = weights / weights.sum()
    agree = selected.sign() == torch.where(selected.sum(0) >= 0, 1, -1)
    shares = weights[:, None] * agree
    merged: Tensor = (selected * shares).sum(0) / shares.sum(0).clamp(min=1e-6)
    return base + merged.float().view(base.shape)


@pytest.mark.parametrize("n", [2, 3, 5])
@pytest.mark.parametrize("block", [7, 1000, 2**18])
@pytest.mark.parametrize("coarse", [False, True])
def test_streaming_selection_is_that_of_a_sort(
    monkeypatch: pytest.MonkeyPatch, n: int, block: int, coarse: bool
) -> None:
    """Coarse numbers have many equal variances."""
    monkeypatch.setattr(group, "BLOCK", block)
    base = normal(40, 50)
    deltas = [normal(40, 50, seed=seed + 1) for seed in range(n)]
    models = [base + ((delta * 2).round() / 8 if coarse else delta) for delta in deltas]
    merged = merge("sce", *models, base=base, select_topk=0.3)
    assert torch.allclose(merged, plainly(models, base, 0.3), atol=1e-6)


@pytest.mark.parametrize("size", [1e-15, 1e-3, 1e10, 1e18])
def test_selection_does_not_depend_on_the_size_of_the_task_vectors(size: float) -> None:
    """The squares of the largest overflow in float32."""
    models = [normal(2000, seed=seed) for seed in range(3)]
    models[0][5] = 20
    plain = merge("sce", *models, base=torch.zeros(2000), select_topk=0.4) != 0
    large = merge("sce", *(model * size for model in models), base=torch.zeros(2000), select_topk=0.4) != 0
    assert torch.equal(large, plain)


@pytest.mark.parametrize("n", [1, 2, 3, 8])
def test_variances_are_rounded_once(n: int) -> None:
    x = normal(n, 70_000) + 5
    assert torch.equal(variance(x), x.double().var(0, correction=0).float())


def test_the_fraction_lies_between_0_and_1() -> None:
    with pytest.raises(ValidationError, match="less than or equal to 1"):
        params_of("sce", select_topk=1.5)
