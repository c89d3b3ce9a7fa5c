"""KnOTS: merged in the basis that all task vectors share; next to numpy in float64."""

from __future__ import annotations

import math
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from factor_products import Factors, Matrix, products, ties
from task_vectors import method_called

from mergecore import MergeMethod, Registry
from mergecore.testing import run_method

KNOTS: MergeMethod[Any] = Registry.discover().get(MergeMethod, "knots")


def knots_ties(matrices: Sequence[Matrix], densities: Sequence[float], weights: Sequence[float]) -> Matrix:
    """By the decomposition of all task vectors side by side."""
    u, s, vt = np.linalg.svd(np.concatenate(matrices, axis=1), full_matrices=False)
    kept = s > 1e-10
    split = np.split(s[kept, None] * vt[kept], len(matrices), axis=1)
    return np.asarray(u[:, kept] @ ties(split, densities, weights))


@pytest.mark.parametrize("ranks", [(3, 3), (2, 5, 1), (18, 18)])
def test_factors_and_whole_matrices_give_what_the_paper_says(ranks: tuple[int, ...]) -> None:
    factors = products(*ranks)
    whole = [(b @ a).numpy() for b, a in factors]
    densities, weights = [0.5, 0.75, 1][: len(ranks)], [1, 0.5, 2][: len(ranks)]
    params = KNOTS.params(weight=tuple(weights), density=tuple(densities), scale=0.5)
    wanted = 0.5 * knots_ties(whole, densities, weights)
    assert KNOTS.merge_factors
    b, a = KNOTS.merge_factors(Factors(factors), params)
    assert b.shape[1] == min(24, sum(ranks))
    assert np.abs((b @ a).numpy() - wanted).max() < 1e-12 * np.abs(wanted).max() * 100
    tensors = [torch.from_numpy(one) for one in whole]
    merged = run_method(KNOTS, params, tensors, torch.zeros(24, 18, dtype=torch.float64))
    assert np.abs(merged.numpy() - wanted).max() < 1e-10 * np.abs(wanted).max()


def test_in_large_matrices_squares_find_the_same_basis(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mergecore_plugins.methods.common.factors.LARGE", 4)
    whole = [(b @ a).numpy() for b, a in products(18, 18)]
    params = KNOTS.params(weight=(1.0, 1.0), density=(0.5, 0.5))
    tensors = [torch.from_numpy(one) for one in whole]
    merged = run_method(KNOTS, params, tensors, torch.zeros(24, 18, dtype=torch.float64))
    wanted = knots_ties(whole, [0.5, 0.5], [1, 1])
    assert np.abs(merged.numpy() - wanted).max() < 1e-8 * np.abs(wanted).max()


def test_at_density_1_without_an_election_it_is_task_arithmetic() -> None:
    factors = products(3, 4)
    params = KNOTS.params(weight=(0.5, 2.0), rule="dare_linear", scale=3)
    assert KNOTS.merge_factors
    b, a = KNOTS.merge_factors(Factors(factors), params)
    wanted = 3 * (0.5 * factors[0][0] @ factors[0][1] + 2 * factors[1][0] @ factors[1][1])
    assert (b @ a - wanted).abs().max() < 1e-12


def test_dare_drops_in_the_shared_basis_and_makes_up_for_it() -> None:
    """Half of the entries are 0, and the others twice as large."""
    factors = products(4)
    params = KNOTS.params(weight=(1.0,), density=(0.5,), rule="dare_linear")
    assert KNOTS.merge_factors
    b, a = KNOTS.merge_factors(Factors(factors), params)
    whole = factors[0][0] @ factors[0][1]
    before, after = b.T @ whole, a
    dropped = after == 0
    assert 0.3 < float(dropped.double().mean()) < 0.7
    assert torch.allclose(after[~dropped], 2 * before[~dropped])
    ties_of_drops = KNOTS.params(weight=(1.0,), density=(0.5,), rule="dare_ties")
    _, again = KNOTS.merge_factors(Factors(factors), ties_of_drops)
    assert torch.allclose(again, after)


def test_normalize_divides_by_the_weights() -> None:
    factors = products(3, 3)
    assert KNOTS.merge_factors
    made = []
    for normalize in (False, True):
        params = KNOTS.params(weight=(1.0, 3.0), rule="dare_linear", normalize=normalize)
        b, a = KNOTS.merge_factors(Factors(factors), params)
        made.append(b @ a)
    assert torch.allclose(made[0], 4 * made[1])


def test_vectors_are_merged_as_they_are() -> None:
    """[4 1] and [-2 3]: 4 wins at the first place, both count at the second."""
    params = KNOTS.params(weight=(1.0, 1.0))
    merged = run_method(KNOTS, params, [torch.tensor([4.0, 1]), torch.tensor([-2.0, 3])], torch.zeros(2))
    assert merged.tolist() == [4, 2]


def test_changes_of_nothing_stay_nothing() -> None:
    nothing = [(torch.zeros(5, 2).double(), torch.zeros(2, 4).double())] * 2
    assert KNOTS.merge_factors
    b, a = KNOTS.merge_factors(Factors(nothing), KNOTS.params(weight=(1.0, 1.0)))
    assert (b @ a).abs().max() == 0


@pytest.mark.parametrize("shape", [(), (262145,), (0, 3), (128256, 4096), (64, 32, 3, 3)])
def test_memory_is_a_few_times_that_of_the_task_vectors(shape: tuple[int, ...]) -> None:
    """A basis has no more vectors than the task vectors have columns, and a vector needs none."""
    ask = method_called("knots").extra_memory
    assert callable(ask)
    step: Any = SimpleNamespace(shape=shape, inputs=("a", "b", "base"))
    _, held = ask(step)
    assert held <= 10 * 8 * 3 * max(1, math.prod(shape))
