"""Which elements are the k largest by magnitude, against a stable sort."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import Tensor

from mergecore.compute.topk import one_tensor as topk
from mergecore.compute.topk.one_tensor import KEEP_NONE, ExactCut, Search, kept_count

Floats = np.ndarray[Any, np.dtype[np.floating]]

TIES = st.sampled_from([0.0, -0.0, 0.5, -0.5, 1.0, 1.5, -1.5])
"""Few values, so that many magnitudes are equal."""


def sorted_out(x: Floats, k: int) -> Floats:
    """The k largest magnitudes by a stable sort, zeros elsewhere."""
    kept = np.argsort(-np.abs(x), kind="stable")[:k]
    result = np.zeros_like(x)
    result[kept] = x[kept]
    return result


def cut_out(x: Floats, k: int, block: int, order: Sequence[int] | None = None) -> Floats:
    """The same by a search over blocks of `block` numbers."""
    whole = torch.from_numpy(x.copy())
    blocks = list(whole.split(block)) if len(x) else []
    search = Search(k, len(x), len(blocks), whole.dtype)
    passes = 0
    while not search.found:
        for i in order or range(len(blocks)):
            search.look(i, blocks[i])
        search.narrow()
        passes += 1
        assert passes <= 5
    for i, one in enumerate(blocks):
        search.cut.trim_(one, i)
    return whole.numpy()


def same_bits(found: Floats, wanted: Floats) -> bool:
    return np.array_equal(found, wanted)


def check(x: Floats, k: int, block: int, candidates: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(topk, "CANDIDATES", candidates)
        assert same_bits(cut_out(x, k, block), sorted_out(x, k)), (k, block, candidates)


widths = st.sampled_from([np.float32, np.float64])
candidates = st.sampled_from([0, 3, 1 << 21])


@given(st.data(), widths, st.integers(1, 9), candidates)
def test_the_largest_are_kept_and_equal_ones_by_position(
    data: st.DataObject, dtype: type[np.floating], block: int, candidates: int
) -> None:
    x = data.draw(arrays(dtype, st.integers(0, 40), elements=TIES))
    check(x, data.draw(st.integers(0, len(x))), block, candidates)


@given(st.data(), widths, st.integers(1, 9), candidates)
def test_any_finite_numbers_will_do(
    data: st.DataObject, dtype: type[np.floating], block: int, candidates: int
) -> None:
    bits = 8 * np.dtype(dtype).itemsize
    numbers = st.floats(allow_nan=False, allow_infinity=False, width=64 if bits == 64 else 32)
    x = data.draw(arrays(dtype, st.integers(1, 25), elements=numbers))
    check(x, data.draw(st.integers(0, len(x))), block, candidates)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("candidates", [0, 50, 1 << 21])
def test_many_numbers_of_one_magnitude_are_told_apart(dtype: type[np.floating], candidates: int) -> None:
    """Neighbours in the last bit, which only the last digit of the search can tell."""
    x = np.full(3000, 0.5, dtype)
    x[::7] = np.nextafter(x[0], dtype(1))
    x[::5] *= -1
    for k in (1, 428, 429, 430, 2999):  # 429 of the 3000 are the larger ones
        check(x, k, 700, candidates)


@pytest.mark.parametrize("scale", [1e-40, 1e-45, 1.0, 3e38])
@pytest.mark.parametrize("seed", range(3))
def test_normal_and_denormal_numbers_are_told_apart(scale: float, seed: int) -> None:
    numbers = np.clip(np.random.default_rng(seed).standard_normal(2000), -1, 1) * scale
    x = numbers.astype(np.float32)
    for k in (1, 700, 1999):
        check(x, k, 300, (0, 10, 1 << 21)[seed])


def test_exactly_k_are_kept() -> None:
    x = np.round(np.random.default_rng(0).standard_normal(5000), 1).astype(np.float32)
    x[x == 0] = 0.1
    for k in range(0, 5001, 250):
        assert np.count_nonzero(cut_out(x, k, 617)) == k


def test_the_order_of_the_blocks_does_not_matter() -> None:
    x = np.round(np.random.default_rng(1).standard_normal(1000), 1).astype(np.float32)
    forwards = cut_out(x, 333, 100)
    assert same_bits(cut_out(x, 333, 100, [3, 9, 1, 0, 8, 2, 7, 6, 4, 5]), forwards)


def test_a_cut_among_zeros_leaves_everything() -> None:
    x = np.array([0, 1, 0, -2, 0], np.float32)
    assert cut_out(x, 4, 2).tolist() == x.tolist()


@pytest.mark.parametrize(
    ("density", "count", "kept"),
    [
        (0.5, 8192, 4096),
        (0.29, 100, 28),  # 0.29 · 100 is 28.999999999999996
        (0.001, 10, 1),
        (0.0, 10, 0),
        (-1.0, 10, 0),
        (1.0, 10, 10),
        (1.5, 10, 10),
        (0.5, 1, 1),
        (0.5, 0, 0),
    ],
)
def test_a_density_keeps_a_truncated_number_but_at_least_one(density: float, count: int, kept: int) -> None:
    assert kept_count(density, count) == kept


def test_a_cut_of_nothing_zeroes_all() -> None:
    assert KEEP_NONE.trim_(torch.tensor([1.0, -3e38]), 0).tolist() == [0, 0]


def test_a_cut_goes_with_flat_blocks_only() -> None:
    rows: Tensor = torch.ones(2, 2)
    with pytest.raises(ValueError, match="trim in a pass without rows"):
        ExactCut(0.5).trim_(rows, 0)
