"""DELLA without an election."""

from __future__ import annotations

import torch
from task_vectors import merged

X = torch.randn(3, 20, 30, generator=torch.Generator().manual_seed(0))


def test_the_weighted_sum_is_taken() -> None:
    """2 · 1 + 3 · 3 = 11, 2 · 1 + 3 · -1 = -1; lambda halves."""
    options = {"weight": [2, 3], "lambda": 0.5}
    assert merged("della_linear", [1.0, 1], [3.0, -1], **options).tolist() == [5.5, -0.5]


def test_the_sum_is_divided_by_the_weights_when_normalised() -> None:
    assert merged("della_linear", [1.0], [3.0], weight=[1, 3], normalize=True).tolist() == [2.5]


def test_the_masks_are_those_of_della() -> None:
    options = {"weight": 1, "density": 0.4, "epsilon": 0.3, "seed": 5}
    assert torch.equal(merged("della_linear", X[0], **options), merged("della", X[0], **options))


def test_models_are_made_sparse_one_by_one() -> None:
    options = {"density": 0.4, "epsilon": 0.3}
    both = merged("della_linear", X[0], X[1], weight=[1, 1], **options)
    first = merged("della_linear", X[0], X[1], weight=[1, 0], **options)
    second = merged("della_linear", X[0], X[1], weight=[0, 1], **options)
    assert torch.equal(both, first + second)


def test_density_1_is_task_arithmetic_whatever_epsilon() -> None:
    options = {"weight": [0.5, 0.3, 0.4]}
    wanted = merged("task_arithmetic", *X, **options)
    assert torch.equal(merged("della_linear", *X, epsilon=0.1, **options), wanted)
