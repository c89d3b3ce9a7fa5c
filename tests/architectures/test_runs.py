"""Tensors put together of others: what torch makes of their numbers is what the runs say."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

from mergecore_architectures.runs import Run, Runs, dealt, joined, split, stacked, whole

ONE, TWO = torch.arange(24).view(2, 3, 4), 100 + torch.arange(48).view(2, 6, 4)
NAMED = {"one": ONE, "two": TWO}


def numbers(made: Runs) -> Tensor:
    """The numbers that runs stand for."""
    parts = [NAMED[run.source].flatten()[run.start : run.start + run.count] for run in made.runs]
    return torch.cat(parts).view(made.shape)


def one() -> Runs:
    return whole("one", (2, 3, 4))


def two() -> Runs:
    return whole("two", (2, 6, 4))


def test_a_tensor_is_one_run() -> None:
    assert one().runs == (Run("one", 0, 24),)
    assert one().count == 24
    assert numbers(one()).equal(ONE)


@pytest.mark.parametrize(("start", "count"), [(0, 24), (0, 0), (5, 1), (3, 19), (23, 1)])
def test_a_part_is_the_elements_in_between(start: int, count: int) -> None:
    made = joined([one(), one()], 1)
    found = [
        NAMED[run.source].flatten()[run.start : run.start + run.count] for run in made.part(start, count)
    ]
    expected = torch.cat([ONE, ONE], 1).flatten()[start : start + count]
    assert torch.cat([*found, torch.tensor([], dtype=torch.int64)]).equal(expected)


@pytest.mark.parametrize("axis", [1])
def test_tensors_are_joined_along_an_axis(axis: int) -> None:
    assert numbers(joined([one(), two(), one()], axis)).equal(torch.cat([ONE, TWO, ONE], axis))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_equal_tensors_are_joined_along_any_axis(axis: int) -> None:
    assert numbers(joined([one(), one()], axis)).equal(torch.cat([ONE, ONE], axis))


def test_tensors_are_stacked() -> None:
    assert numbers(stacked([one(), one()])).equal(torch.stack([ONE, ONE]))
    assert stacked([one()]).runs == one().runs


@pytest.mark.parametrize(("sizes", "axis"), [((1, 1), 0), ((1, 4, 1), 1), ((2, 2, 2), 1), ((3, 1), 2)])
def test_a_tensor_is_split(sizes: Sequence[int], axis: int) -> None:
    for found, expected in zip(split(two(), sizes, axis), TWO.split(list(sizes), axis), strict=True):
        assert numbers(found).equal(expected)


@pytest.mark.parametrize(("axis", "hands"), [(0, 2), (1, 2), (1, 3), (2, 2)])
def test_slices_are_dealt(axis: int, hands: int) -> None:
    size = TWO.shape[axis]
    order = [i for hand in range(hands) for i in range(hand, size, hands)]
    assert numbers(dealt(two(), axis, hands)).equal(TWO.index_select(axis, torch.tensor(order)))


def test_what_was_split_and_joined_is_one_run_again() -> None:
    assert joined(split(two(), (2, 4), 1), 1) == two()
    assert joined(split(two(), (1, 3), 2), 2) == two()


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (lambda: stacked([one(), two()]), r"the shapes \[2, 3, 4\] and \[2, 6, 4\] differ"),
        (lambda: joined([one(), two()], 0), r"the shapes \[3, 4\] and \[6, 4\] differ"),
        (lambda: split(one(), (1, 1), 1), r"\[1, 1\] are not the parts of 3"),
        (lambda: dealt(one(), 1, 2), "3 cannot be dealt to 2"),
    ],
)
def test_what_does_not_fit_is_refused(wrong: Callable[[], object], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        wrong()
