"""Consensus TIES: the consensus is about the task vectors as they were before trimming."""

from __future__ import annotations

import torch
from task_vectors import merged

D = [4.0, 1, -3, 0.5], [2.0, -2, 1, 0.5]


def test_without_votes_it_is_ties() -> None:
    """Trimmed to two of four: 4 . -3 . and 2 -2 . .; means 3 -2 -3 0."""
    assert merged("ties", *D, weight=1, density=0.5).tolist() == [3, -2, -3, 0]
    assert merged("consensus_ties", *D, weight=1, density=0.5, k=0).tolist() == [3, -2, -3, 0]


def test_untrimmed_task_vectors_vote() -> None:
    """Against 3 -2 -3 0: 4>1 2>1; 1<3 2>0; 3>0 1<4; 0.5 = 0.5 fails twice."""
    assert merged("consensus_ties", *D, weight=1, density=0.5).tolist() == [3, -2, -3, 0]
    assert merged("consensus_ties", *D, weight=1, density=0.5, k=2).tolist() == [3, 0, 0, 0]


def test_lambda_says_how_strict_each_model_is() -> None:
    """With 1/9 for all: 1 > 1/3 and 2 > 0; 3 > 0 and 1 > 4/9."""
    options = {"weight": 1, "density": 0.5, "k": 2, "lambda": 1 / 9}
    assert merged("consensus_ties", *D, **options).tolist() == [3, -2, -3, 0]


def test_rescale_is_that_of_ties() -> None:
    x = torch.randn(2, 400, generator=torch.Generator().manual_seed(0))
    options = {"weight": [0.6, 0.4], "density": 0.3, "rescale": True}
    assert torch.equal(merged("consensus_ties", *x, k=0, **options), merged("ties", *x, **options))
