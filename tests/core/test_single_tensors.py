"""Merging single tensors that are in memory."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest
import torch

import mergecore
from mergecore import MergeMethod, NoParams, Registry

# ---- single tensors ----------------------------------------------------------------------------------------


def test_tensors_of_any_kind_are_averaged() -> None:
    found = mergecore.merge_tensors(
        "linear",
        [torch.ones(2, 3), np.full((2, 3), 3.0), torch.full((3, 2), 5.0, dtype=torch.bfloat16).T],
        weight=[1, 2, 1],
    )
    assert found.tolist() == [[3.0] * 3] * 2  # (1 + 2 · 3 + 5) / 4
    assert found.dtype == torch.float64


def test_parameters_may_be_arrays() -> None:
    tensors = [torch.tensor([1.0]), torch.tensor([3.0])]
    for weight in (torch.tensor([1.0, 3.0]), np.array([1, 3])):
        assert mergecore.merge_tensors("linear", tensors, weight=weight).tolist() == [2.5]
    assert mergecore.merge_tensors("linear", tensors, weight=torch.tensor(1.0)).tolist() == [2.0]


def test_a_base_is_what_the_others_differ_from() -> None:
    """ties by hand: deltas 1 and -3, of which the second wins the vote."""
    found = mergecore.merge_tensors(
        "ties",
        [torch.tensor([3.0, 5.0]), torch.tensor([-1.0, 5.0])],
        base=torch.tensor([2.0, 2.0]),
        weight=1.0,
    )
    assert found.tolist() == [-1.0, 5.0]


@pytest.mark.parametrize("dtype", ["bfloat16", torch.bfloat16, "torch.bfloat16"])
def test_the_result_has_the_dtype_that_is_asked_for(dtype: Any) -> None:
    found = mergecore.merge_tensors("linear", [torch.tensor(1.0), torch.tensor(2.0)], dtype=dtype, weight=1.0)
    assert (found.dtype, found.item(), found.shape) == (torch.bfloat16, 1.5, ())


@pytest.mark.parametrize(("method", "word"), [("task_arithmetic", "scale"), ("consensus_ta", "threshold")])
def test_lambda_is_given_by_a_name_that_python_allows(method: str, word: str) -> None:
    tensors, base = [torch.tensor([1.0, 3.0]), torch.tensor([2.0, 5.0])], torch.zeros(2)
    first, second = (
        mergecore.merge_tensors(method, tensors, base=base, weight=1.0, **cast("dict[str, Any]", {name: 0.5}))
        for name in ("lambda", word)
    )
    assert first.equal(second)
    if method == "task_arithmetic":
        assert first.tolist() == [1.5, 4.0]  # (1 + 2) / 2, (3 + 5) / 2


def test_random_numbers_depend_on_name_and_seed() -> None:
    tensors = [torch.ones(1000)]
    base = torch.zeros(1000)

    def made(**more: Any) -> bytes:
        found = mergecore.merge_tensors("dare_linear", tensors, base=base, weight=1.0, density=0.5, **more)
        assert sorted(found.unique().tolist()) == [0.0, 2.0]
        return found.numpy().tobytes()

    assert made() == made()
    assert len({made(), made(seed=1), made(name="other")}) == 3


def test_a_method_that_is_not_installed_can_be_handed_over() -> None:
    method = MergeMethod(
        name="largest", merge=lambda group, _: group.map(lambda one: one.x.amax(0)), params=NoParams
    )
    for _ in range(2):
        assert mergecore.merge_tensors(method, [torch.tensor([1.0, 5]), torch.tensor([2.0, 3])]).tolist() == [
            2,
            5,
        ]
    ties = Registry.discover().get(MergeMethod, "ties")
    assert mergecore.merge_tensors(ties, [torch.ones(2)], base=torch.zeros(2), weight=1.0).tolist() == [1, 1]
