"""Sums over two tensors, against numpy in float64; ranks against its singular values."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mergecore_plugins.look.pairs import Pair, effective_rank, pair


@given(st.integers(0, 2**31), st.integers(1, 400), st.integers(1, 5))
def test_sums_are_those_of_numpy_in_whatever_parts(seed: int, count: int, parts: int) -> None:
    draw = np.random.default_rng(seed)
    first, second = draw.normal(size=(2, count)) * draw.integers(0, 2, size=(2, count))
    second = np.where(draw.random(count) < 0.3, first, second)
    found = Pair()
    for a, b in zip(np.array_split(first, parts), np.array_split(second, parts), strict=True):
        found += pair(torch.from_numpy(a.copy()), torch.from_numpy(b.copy()))
    assert found.count == count
    assert found.changed == np.count_nonzero(first != second)
    assert found.largest == np.abs(second - first).max()
    both = (first != 0) & (second != 0)
    assert (found.signed, found.agreeing) == (both.sum(), (np.sign(first) == np.sign(second))[both].sum())
    length, other = np.linalg.norm(first), np.linalg.norm(second)
    if length and other:
        assert found.relative == pytest.approx(np.linalg.norm(second - first) / length, rel=1e-12)
        assert found.cosine == pytest.approx(first @ second / (length * other), abs=1e-12)
    else:
        assert found.cosine is None


def test_nothing_has_no_angle() -> None:
    found = pair(torch.zeros(3, dtype=torch.float64), torch.ones(3, dtype=torch.float64))
    assert (found.relative, found.cosine, found.same_sign, found.share_changed) == (None, None, None, 1.0)
    assert Pair().share_changed is None


def test_entries_that_a_coarser_format_cannot_tell_apart_have_not_changed() -> None:
    fine = torch.linspace(0.1, 3, 50, dtype=torch.float64)
    assert pair(fine, fine.bfloat16().double()).changed > 40
    assert pair(fine, fine.bfloat16().double(), torch.bfloat16).changed == 0
    assert pair(fine, (fine * 1.01).bfloat16().double(), torch.bfloat16).changed > 40


@pytest.mark.parametrize("shape", [(6, 9), (9, 6)])
def test_the_effective_rank_is_the_entropy_of_the_singular_values(shape: tuple[int, int]) -> None:
    matrix = np.random.default_rng(0).normal(size=shape)
    values = np.linalg.svd(matrix, compute_uv=False)
    shares = values / values.sum()
    wanted = math.exp(-(shares * np.log(shares)).sum())
    assert effective_rank(torch.from_numpy(matrix)) == pytest.approx(wanted, rel=1e-6)


def test_the_effective_rank_of_equal_directions_is_their_number() -> None:
    assert effective_rank(torch.eye(7)[:3]) == pytest.approx(3, rel=1e-6)
    assert effective_rank(torch.zeros(4, 4)) == 0


def test_the_effective_rank_of_a_small_change_of_low_rank_is_that() -> None:
    draw = np.random.default_rng(1)
    change = (draw.normal(size=(1000, 1)) @ draw.normal(size=(1, 1100))).astype("f4")
    assert effective_rank(torch.from_numpy(change)) == pytest.approx(1, abs=0.02)
