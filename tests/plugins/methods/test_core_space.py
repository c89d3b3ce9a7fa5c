"""Core Space: small matrices between shared bases; next to numpy in float64."""

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

CORE: MergeMethod[Any] = Registry.discover().get(MergeMethod, "core_space")


def merged(factors: Any, **params: Any) -> Matrix:
    assert CORE.merge_factors
    b, a = CORE.merge_factors(Factors(factors), CORE.params(**params))
    return np.asarray((b @ a).numpy())


def cores(factors: Sequence[Any]) -> tuple[Matrix, list[Matrix], Matrix]:
    """The bases, and the matrices between them."""
    u = np.linalg.svd(np.concatenate([b.numpy() for b, _ in factors], axis=1), full_matrices=False)[0]
    vt = np.linalg.svd(np.concatenate([a.numpy() for _, a in factors]), full_matrices=False)[2]
    return u, [u.T @ b.numpy() @ a.numpy() @ vt.T for b, a in factors], vt


def polar(x: Matrix) -> Matrix:
    """By the eigenvalues of the squares, (x x')^(-1/2) x."""
    tall = x if x.shape[0] >= x.shape[1] else x.T
    values, vectors = np.linalg.eigh(tall.T @ tall)
    near = tall @ (vectors / np.sqrt(values)) @ vectors.T
    return np.asarray(near if tall is x else near.T)


def tsv(matrices: Sequence[Matrix]) -> Matrix:
    share = min(matrices[0].shape) // len(matrices)
    parts = [np.linalg.svd(one, full_matrices=False) for one in matrices]
    kept = [min(share, int((s > 1e-10).sum())) for _, s, _ in parts]
    u = np.concatenate([u[:, :k] for (u, _, _), k in zip(parts, kept, strict=True)], axis=1)
    s = np.concatenate([s[:k] for (_, s, _), k in zip(parts, kept, strict=True)])
    v = np.concatenate([v[:k] for (_, _, v), k in zip(parts, kept, strict=True)])
    return np.asarray(polar(u) @ np.diag(s) @ polar(v))


@pytest.mark.parametrize("ranks", [(3, 3), (2, 5), (4, 4, 4)])
def test_ties_between_the_bases(ranks: tuple[int, ...]) -> None:
    factors = products(*ranks)
    weights, densities = (1.0, 0.5, 2.0)[: len(ranks)], (0.5, 0.75, 1.0)[: len(ranks)]
    u, matrices, vt = cores(factors)
    wanted = u @ (0.5 * ties(matrices, densities, weights)) @ vt
    found = merged(factors, weight=weights, density=densities, scale=0.5)
    assert np.abs(found - wanted).max() < 1e-12 * 1000


@pytest.mark.parametrize("ranks", [(3, 3), (2, 5)])
def test_singular_vectors_of_tasks(ranks: tuple[int, ...]) -> None:
    """The same as in the full space, where only singular values that are not 0 count."""
    factors = products(*ranks)
    u, matrices, vt = cores(factors)
    found = merged(factors, weight=(1.0, 2.0), rule="tsv")
    assert np.abs(found - u @ tsv([matrices[0], 2 * matrices[1]]) @ vt).max() < 1e-9


def test_all_singular_values_become_their_mean() -> None:
    factors = products(3, 2)
    whole = sum(w * (b @ a).numpy() for w, (b, a) in zip((1.0, 2.0), factors, strict=True))
    u, s, vt = np.linalg.svd(whole)
    wanted = s[:5].mean() * u[:, :5] @ vt[:5]
    assert np.abs(merged(factors, weight=(1.0, 2.0), rule="iso") - wanted).max() < 1e-11


def test_singular_values_of_the_core_that_are_0_count_in_the_mean() -> None:
    """Two adapters of the same two directions: the second takes one away, and a quarter of the other.

    The core is 2 x 2, and the sum diag(3, 0) in it: the mean of 3 and 0 is 1.5.
    """
    e = torch.eye(24, 18).double()
    first = (torch.stack([4 * e[:, 0], e[:, 1]], 1), torch.eye(18).double()[:2])
    second = (torch.stack([-e[:, 0], -e[:, 1]], 1), torch.eye(18).double()[:2])
    wanted = np.zeros((24, 18))
    wanted[0, 0] = 1.5
    assert np.abs(merged([first, second], weight=(1.0, 1.0), rule="iso") - wanted).max() < 1e-12


def test_a_sum_is_the_same_in_any_space() -> None:
    factors = products(3, 4)
    wanted = sum(w * (b @ a).numpy() for w, (b, a) in zip((0.5, 2.0), factors, strict=True))
    assert np.abs(merged(factors, weight=(0.5, 2.0), rule="dare_linear") - wanted).max() < 1e-12
    half = merged(factors, weight=(0.5, 2.0), rule="iso", normalize=True)
    assert np.abs(2.5 * half - merged(factors, weight=(0.5, 2.0), rule="iso")).max() < 1e-11


def test_whole_task_vectors_have_bases_of_their_own() -> None:
    """Of models that are not adapters: the singular vectors of all task vectors together."""
    whole = [(b @ a).numpy() for b, a in products(18, 18)]
    u = np.linalg.svd(np.concatenate(whole, axis=1), full_matrices=False)[0]
    vt = np.linalg.svd(np.concatenate(whole), full_matrices=False)[2]
    wanted = u @ ties([u.T @ one @ vt.T for one in whole], (0.5, 0.5), (1, 1)) @ vt
    params = CORE.params(weight=(1.0, 1.0), density=(0.5, 0.5))
    found = run_method(CORE, params, [torch.from_numpy(one) for one in whole], torch.zeros(24, 18).double())
    assert np.abs(found.numpy() - wanted).max() < 1e-10


def test_vectors_are_merged_as_they_are_and_by_singular_rules_averaged() -> None:
    tensors = [torch.tensor([4.0, 1]), torch.tensor([-2.0, 3])]
    for rule, wanted in (("ties", [4, 2]), ("tsv", [1, 2]), ("iso", [1, 2])):
        params = CORE.params(weight=(1.0, 1.0), rule=rule)
        assert run_method(CORE, params, tensors, torch.zeros(2)).tolist() == wanted


def test_adapters_that_are_the_same_or_nothing() -> None:
    [one] = products(3)
    nothing = (torch.zeros(24, 0).double(), torch.zeros(0, 18).double())
    wanted = (one[0] @ one[1]).numpy()
    assert np.abs(merged([one, one], weight=(1.0, 1.0)) - wanted).max() < 1e-12 * 100
    assert np.abs(merged([one, nothing], weight=(1.0, 1.0)) - wanted).max() < 1e-12 * 100
    for rule in ("ties", "tsv", "iso"):
        assert np.abs(merged([nothing, nothing], weight=(1.0, 1.0), rule=rule)).max() == 0


def test_directions_that_two_models_share_are_counted_once() -> None:
    """Singular vectors of equal models have no orthogonal version of full rank; none is made up of rounding."""
    [one] = products(4)
    found = merged([one, one], weight=(1.0, 1.0), rule="tsv")
    nudged = merged([one, (one[0] * (1 + 1e-14), one[1])], weight=(1.0, 1.0), rule="tsv")
    assert np.abs(found - nudged).max() < 1e-11
    u, s, v = np.linalg.svd((one[0] @ one[1]).numpy(), full_matrices=False)
    share = 2  # of the four directions of the space that both span
    assert np.abs(found - u[:, :share] * s[:share] @ v[:share]).max() < 1e-11


@pytest.mark.parametrize("shape", [(), (262145,), (0, 3), (128256, 4096), (64, 32, 3, 3)])
def test_memory_is_a_few_times_that_of_the_task_vectors(shape: tuple[int, ...]) -> None:
    """A basis has no more vectors than the task vectors have columns, and a vector needs none."""
    ask = method_called("core_space").extra_memory
    assert callable(ask)
    step: Any = SimpleNamespace(shape=shape, inputs=("a", "b", "base"))
    _, held = ask(step)
    assert held <= 16 * 8 * 3 * max(1, math.prod(shape))
