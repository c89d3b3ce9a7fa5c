"""Each method next to numpy in float64, in both precisions, and in cases to check by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import references
import torch
from references import Matrix

from mergecore import MergeMethod, Registry
from mergecore.testing import run_method

REFERENCES: dict[str, Callable[[Sequence[Matrix]], Matrix]] = {
    "tsv": references.tsv,
    "iso_c": references.iso_c,
    "iso_cts": references.iso_cts,
}
METHODS: dict[str, MergeMethod[Any]] = {
    method.name: method for method in Registry.discover().all(MergeMethod) if method.name in REFERENCES
}
SHAPES = [(12, 12), (24, 10), (10, 24), (33, 70)]

every_method = pytest.mark.parametrize("name", REFERENCES)


def task_vectors(count: int, shape: Sequence[int], seed: int = 0) -> list[Matrix]:
    """Task vectors that share a part, as fine-tunes of one model do."""
    normal = np.random.default_rng(seed).standard_normal
    shared = normal(shape)
    return [shared + normal(shape) for _ in range(count)]


def merged(name: str, deltas: Sequence[Matrix], dtype: torch.dtype = torch.float64, **params: Any) -> Matrix:
    """What the method makes of them and of a base of 0."""
    tensors = [torch.from_numpy(one).to(dtype) for one in deltas]
    method = METHODS[name]
    found = run_method(method, method.params(**params), tensors, torch.zeros_like(tensors[0]))
    assert found.dtype == dtype
    return np.asarray(found.double().numpy())


def off(found: Matrix, wanted: Matrix) -> float:
    """The largest error, relative to the largest number."""
    return float(np.abs(found - wanted).max() / np.abs(wanted).max())


@every_method
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_a_method_gives_what_its_formula_says(name: str, count: int, shape: tuple[int, int]) -> None:
    deltas = task_vectors(count, shape)
    assert off(merged(name, deltas), REFERENCES[name](deltas)) <= 1e-10
    rounded = [one.astype(np.float32).astype(np.float64) for one in deltas]
    assert off(merged(name, rounded, torch.float32), REFERENCES[name](rounded)) <= 1e-6


@every_method
def test_weights_scale_task_vectors_and_lambda_their_merge(name: str) -> None:
    deltas = task_vectors(3, (20, 16))
    weighted = [w * one for w, one in zip((0.5, -1.0, 2.0), deltas, strict=True)]
    found = merged(name, deltas, weight=(0.5, -1.0, 2.0), scale=0.3)
    assert off(found, 0.3 * REFERENCES[name](weighted)) <= 1e-10


def test_the_share_and_the_common_part_can_be_chosen() -> None:
    deltas = task_vectors(2, (20, 16))
    assert off(merged("tsv", deltas, share=0.25), references.tsv(deltas, 4)) <= 1e-10
    assert off(merged("iso_cts", deltas, common=0.5), references.iso_cts(deltas, 0.5)) <= 1e-10
    assert off(merged("iso_cts", deltas, common=1), references.iso_c(deltas)) <= 1e-10


@every_method
@pytest.mark.parametrize("shape", [(), (3,), (2, 2, 2)], ids=str)
def test_what_is_no_matrix_gets_the_mean(name: str, shape: tuple[int, ...]) -> None:
    deltas = [np.full(shape, value) for value in (1.0, 2.0, 9.0)]
    assert (merged(name, deltas) == 4).all()  # (1 + 2 + 9) / 3
    assert (merged(name, deltas, weight=(1, 1, 0), scale=0.5) == 0.5).all()  # 0.5 (1 + 2) / 3


@every_method
def test_a_matrix_gets_the_mean_where_that_is_wanted(name: str) -> None:
    deltas = [np.eye(2), 3 * np.ones((2, 2))]
    assert merged(name, deltas, spectral=False).tolist() == [[2, 1.5], [1.5, 2]]


def test_singular_vectors_of_two_tasks_that_have_nothing_in_common_are_added() -> None:
    """Each keeps one of two: diag(4, 1) its 4, diag(1, 6) its 6."""
    found = merged("tsv", [np.diag([4.0, 1.0]), np.diag([1.0, 6.0])])
    assert np.abs(found - np.diag([4.0, 6.0])).max() < 1e-14


def test_all_singular_values_of_the_sum_become_their_mean() -> None:
    """diag(4, 0) + diag(0, -2) has the singular values 4 and 2, which become 3."""
    found = merged("iso_c", [np.diag([4.0, 0.0]), np.diag([0.0, -2.0])])
    assert np.abs(found - np.diag([3.0, -3.0])).max() < 1e-14


def test_singular_values_that_are_0_count_in_the_mean_and_stay_0() -> None:
    """diag(4, 2, 0) has the mean (4 + 2 + 0) / 3 = 2; its longer side does not matter."""
    low = np.zeros((3, 5))
    low[0, 0], low[1, 1] = 4.0, -2.0
    wanted = np.zeros((3, 5))
    wanted[0, 0], wanted[1, 1] = 2.0, -2.0
    assert np.abs(merged("iso_c", [low]) - wanted).max() < 1e-14
    assert np.abs(merged("iso_c", [low.T]) - wanted.T).max() < 1e-14
    assert np.abs(merged("iso_cts", [low], common=1) - wanted).max() < 1e-14
    nudged = low.copy()
    nudged[2, 2] = 1e-9  # just above what is nothing: the others do not jump
    assert np.abs(merged("iso_c", [nudged])[:2] - wanted[:2]).max() < 1e-8


def test_each_model_adds_a_direction_that_the_sum_leaves_out() -> None:
    """Of five directions, common 0.6 leaves three to the sum, diag(9, 6, 3, 1, 2), and one to each model."""
    first, second = np.diag([9.0, 6.0, 3.0, 1.0, 0.0]), np.diag([0.0, 0.0, 0.0, 0.0, 2.0])
    found = merged("iso_cts", [first, second], common=0.6)
    assert np.abs(found - np.eye(5) * (9 + 6 + 3 + 1 + 2) / 5).max() < 1e-14


def test_one_task_alone_is_itself_for_tsv() -> None:
    [one] = task_vectors(1, (9, 7))
    assert off(merged("tsv", [one]), one) < 1e-14
