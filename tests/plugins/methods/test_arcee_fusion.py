"""Arcee Fusion: exact quartiles of the importance decide what is taken over."""

from __future__ import annotations

import pytest
import torch
from merging import golden_models, merge, normal
from task_vectors import close
from torch import Tensor

from mergecore.compute import group
from mergecore_plugins.methods.arcee_fusion import divergence


def test_the_golden_row() -> None:
    base, model = golden_models(0, 1)
    digits = (
        "0.500000 0.310805 -0.113601 -0.452036 -0.448379 -0.320817 "
        "0.335358 0.549143 0.304176 -0.121772 -0.455565 -0.444596"
    )
    assert close(merge("arcee_fusion", model, base=base), digits)


def plainly(base: Tensor, model: Tensor) -> Tensor:
    """The same in float64 on whole tensors, with a sort."""
    p, q = model.double().softmax(-1) + 1e-8, base.double().softmax(-1) + 1e-8
    score = (model.double() - base.double()).abs() * (p * (p / q).log()).sum(-1, keepdim=True)
    ordered = score.flatten().sort().values
    low, middle, high = (ordered[int(part * (len(ordered) - 1))] for part in (0.25, 0.5, 0.75))
    return torch.where(score >= middle + 1.5 * (high - low), model, base)


@pytest.mark.parametrize("shape", [(30, 40), (500,), (3, 10, 20), (200, 3)])
@pytest.mark.parametrize("block", [100, 2**18])
def test_it_takes_what_a_sort_would_take(
    monkeypatch: pytest.MonkeyPatch, shape: tuple[int, ...], block: int
) -> None:
    monkeypatch.setattr(group, "BLOCK", block)
    base = normal(*shape)
    model = base + normal(*shape, seed=1) * 0.1
    merged = merge("arcee_fusion", model, base=base)
    assert torch.equal(merged, plainly(base, model))
    assert 0 < int((merged == model).sum()) < 0.3 * base.numel()


def test_a_row_that_is_shifted_as_a_whole_says_the_same_and_stays() -> None:
    base = normal(10, 20)
    model = base + normal(10, 20, seed=1) * 0.1
    model[3] = base[3] + 5
    assert torch.equal(merge("arcee_fusion", model, base=base)[3], base[3])


def test_when_most_elements_did_not_change_all_that_did_are_taken_over() -> None:
    """Both quartiles and the median are 0, and so is the least importance."""
    base = normal(10, 10)
    model = base.clone()
    model[:2] += normal(2, 10, seed=1)
    assert torch.equal(merge("arcee_fusion", model, base=base), model)


def test_a_scalar_is_taken_over() -> None:
    assert merge("arcee_fusion", torch.tensor(2.0), base=torch.tensor(1.0)).item() == 2


@pytest.mark.parametrize("size", [1e-2, 1e-4, 1e-6])
def test_divergences_of_small_changes_are_not_rounding_noise(size: float) -> None:
    """Summed as P log(P / Q) in float32, those of the smallest changes would be off by a factor of thousands."""
    base = normal(4, 2000) * 0.02
    model = base + normal(4, 2000, seed=1) * size
    p, q = model.double().softmax(-1) + 1e-8, base.double().softmax(-1) + 1e-8
    assert torch.allclose(divergence(base, model), (p * (p / q).log()).sum(-1), rtol=0.05, atol=0)


def test_a_certain_choice_has_a_finite_divergence() -> None:
    """P is 1e-8 where Q is 1, and the other way round: log(1e8) = 18.4."""
    found = divergence(torch.tensor([[1e4, 0]]), torch.tensor([[0, 1e4]]))
    assert found.item() == pytest.approx(18.42, abs=0.01)
