"""Sums that are the same on every machine, and as exact as float64."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from mergecore.compute.reduction import gram, gram_within, tree_sum
from mergecore.compute.scratch import Scratch

Number = TypeVar("Number", np.float32, np.float64)


def by_hand(numbers: list[np.float32]) -> float:
    """The same tree in plain Python: float32 while there are more than 1024 numbers, float64 from there on."""
    while len(numbers) > 1024:
        numbers = halved(numbers)
    wide = [np.float64(number) for number in numbers]
    while len(wide) > 1:
        wide = halved(wide)
    return float(wide[0]) if wide else 0.0


def halved(numbers: list[Number]) -> list[Number]:
    half = (len(numbers) + 1) // 2
    sums = [left + right for left, right in zip(numbers, numbers[half:], strict=False)]
    return sums + numbers[len(sums) : half]


@pytest.mark.parametrize("count", [0, 1, 2, 3, 7, 1023, 1024, 1025, 2049, 5000])
def test_the_tree_is_a_fixed_one(count: int) -> None:
    numbers = np.random.default_rng(count).standard_normal(count).astype(np.float32)
    assert tree_sum(torch.from_numpy(numbers.copy())).item() == by_hand(list(numbers))


@given(st.lists(st.floats(-1e3, 1e3, width=32), max_size=40))
def test_few_numbers_are_summed_in_float64(numbers: list[float]) -> None:
    found = tree_sum(torch.tensor(numbers, dtype=torch.float32)).item()
    assert found == pytest.approx(sum(numbers), rel=1e-12, abs=1e-9)


def test_each_row_is_summed() -> None:
    assert tree_sum(torch.tensor([[1.0, 2.0], [3.0, 4.0]])).tolist() == [3, 7]
    assert tree_sum(torch.zeros(3, 0)).tolist() == [0, 0, 0]


def test_the_norm_of_many_numbers_is_that_of_float64() -> None:
    blocks = [
        torch.from_numpy(np.random.default_rng(i).standard_normal(2**18).astype(np.float32))
        for i in range(12)
    ]
    exact = sum(float((block.double() ** 2).sum()) for block in blocks) ** 0.5
    found = sum(gram(block[None]).item() for block in blocks) ** 0.5
    assert found == pytest.approx(exact, rel=1e-9)


def test_the_gram_matrix_holds_all_dot_products() -> None:
    # (1, 2)·(1, 2) = 5, (1, 2)·(3, -1) = 1, (3, -1)·(3, -1) = 10
    x = torch.tensor([[1.0, 2.0], [3.0, -1.0]])
    assert gram(x).tolist() == [[5, 1], [1, 10]]
    assert x.tolist() == [[1, 2], [3, -1]]


def test_a_batch_of_gram_matrices_is_that_of_each() -> None:
    x = torch.from_numpy(np.random.default_rng(0).standard_normal((4, 3, 50)))
    assert torch.allclose(gram(x), x @ x.mT, rtol=1e-13)


@pytest.mark.parametrize("scale", [1e30, 1e-30, 1e-40])
def test_products_beyond_float32_are_computed_in_float64(scale: float) -> None:
    """1e30 squared is Inf in float32, 1e-30 squared is 0, and 1e-40 has few bits itself."""
    x = torch.tensor([[1.0, 2.0, -1.0], [0.5, 1.0, 4.0]]) * scale
    wide = x.double()
    assert torch.allclose(gram(x), wide @ wide.T, rtol=1e-12, atol=0)


def test_a_tiny_row_beside_a_large_one_keeps_its_norm() -> None:
    x = torch.tensor([[3e-25, 4e-25], [1.0, 0.0]])
    assert gram(x)[0, 0].item() == pytest.approx(25e-50, rel=1e-6)


def plainly(x: Tensor) -> npt.NDArray[np.float64]:
    """The same sums in plain numpy: products of stretches added up, halved four times or more, the rest in float64."""
    rows = x.numpy()
    n, m = rows.shape
    few = min(m, (2**18 + 2**17) // (n * (n + 1) // 2))
    out = np.zeros((n, n))
    for i in range(n):
        for j in range(n):
            products = rows[i] * rows[j]
            total = products[:few]
            for start in range(few, m, few):
                stretch = products[start : start + few]
                total = np.concatenate([total[: len(stretch)] + stretch, total[len(stretch) :]])
            while len(total) > min(1024, few // 16):
                half = (len(total) + 1) // 2
                total = np.concatenate(
                    [total[: len(total) - half] + total[half:], total[len(total) - half : half]]
                )
            out[i, j] = by_hand(list(total))
    return out


@pytest.mark.parametrize(("n", "m"), [(3, 2**17 + 5), (3, 2**18), (2, 2**18), (12, 2**14 + 1)])
def test_stretches_are_added_in_order(n: int, m: int) -> None:
    x = torch.from_numpy(np.random.default_rng(n).standard_normal((n, m)).astype(np.float32))
    assert np.array_equal(gram(x).numpy(), plainly(x))


def test_many_small_matrices_have_the_bits_of_each_alone() -> None:
    """Which torch computes, where numpy computes a single one."""
    x = torch.from_numpy(np.random.default_rng(0).standard_normal((40, 2, 3000)).astype(np.float32))
    assert torch.equal(gram(x), torch.stack([gram(one) for one in x]))


def test_rows_may_lie_across_and_stay_as_they_are() -> None:
    x = torch.from_numpy(np.random.default_rng(0).standard_normal((500, 3)).astype(np.float32))
    before = x.clone()
    assert torch.equal(gram(x.T), gram(x.T.contiguous()))
    assert torch.equal(x, before)


def test_memory_that_is_used_again_changes_nothing() -> None:
    scratch = Scratch(torch.device("cpu"))
    for m in (2**18, 700, 2**18, 0):
        x = torch.from_numpy(np.random.default_rng(m).standard_normal((3, m)).astype(np.float32))
        assert torch.equal(gram_within(x, scratch), gram(x))


def test_rows_without_numbers_have_products_of_0() -> None:
    assert gram(torch.zeros(2, 0)).tolist() == [[0, 0], [0, 0]]


def test_rows_of_zeros_stay_in_float32() -> None:
    x = torch.zeros(2, 5000)
    assert gram(x).equal(torch.zeros(2, 2, dtype=torch.float64))


def test_what_is_not_finite_stays_so() -> None:
    x: Tensor = torch.tensor([[1.0, float("inf")], [0.0, float("nan")]])
    assert not torch.isfinite(gram(x)).any()
