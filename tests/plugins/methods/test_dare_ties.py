"""DARE with the election of TIES."""

from __future__ import annotations

import torch
from task_vectors import merged

SIX = [1.0, 1, -4, 2, 0, 1], [2.0, -3, 1, 2, 0, -1]


def test_what_has_the_sign_of_the_sum_is_added() -> None:
    """1+2; 1-3 is negative: -3; -4+1: -4; 2+2; nothing; a sum of 0 elects plus: 1."""
    assert merged("dare_ties", *SIX, weight=1).tolist() == [3, -3, -4, 4, 0, 1]


def test_weights_count_in_the_election() -> None:
    """Weights 1 and 3 make 1+6, 1-9, -4+3, 2+6, 0, 1-3."""
    assert merged("dare_ties", *SIX, weight=[1, 3]).tolist() == [7, -9, -4, 8, 0, -3]


def test_the_sum_is_divided_by_the_weights_that_agree() -> None:
    """7/4, -9/3, -4/1, 8/4, nothing, -3/3; lambda doubles."""
    options = {"weight": [1, 3], "normalize": True, "lambda": 2}
    assert merged("dare_ties", *SIX, **options).tolist() == [3.5, -6, -8, 4, 0, -2]


def test_dropped_entries_have_no_vote() -> None:
    """Where one of +3 and -1 is dropped the other is elected; where both are left, +3."""
    plus, minus = torch.full((200,), 3.0), torch.full((200,), -1.0)
    alone = {"weight": [1, 0], "density": 0.5}
    first = merged("dare_ties", plus, minus, **alone) > 0
    second = merged("dare_ties", plus, minus, weight=[0, 1], density=0.5) < 0
    result = merged("dare_ties", plus, minus, weight=1, density=0.5)
    assert torch.equal(result, torch.where(first, 6.0, torch.where(second, -2.0, 0.0)))
    assert {6, -2, 0} == set(result.tolist())


def test_the_masks_are_those_of_dare_linear() -> None:
    x = torch.arange(1.0, 100)
    options = {"weight": 1, "density": 0.4, "seed": 5}
    assert torch.equal(merged("dare_ties", x, **options), merged("dare_linear", x, **options))


def test_density_1_is_ties_without_trimming() -> None:
    rows = torch.randn(3, 500, generator=torch.Generator().manual_seed(0))
    for normalize in (True, False):
        options = {"weight": [0.5, 0.3, 0.4], "normalize": normalize, "lambda": 0.7}
        assert torch.equal(merged("dare_ties", *rows, **options), merged("ties", *rows, **options))


def test_weights_that_cancel_among_those_that_agree_divide_nothing() -> None:
    """1 · 3 and -1 · -2 agree, and their weights sum to 0: 3 + 2 stays as it is.

    0.1 + 0.2 - 0.3 is 0 but for rounding.
    """
    assert merged("dare_ties", [3.0], [-2.0], weight=[1, -1], normalize=True).tolist() == [5]
    result = merged("dare_ties", [3.0], [3.0], [-2.0], weight=[0.1, 0.2, -0.3], normalize=True)
    assert torch.allclose(result, torch.tensor([1.5]))
