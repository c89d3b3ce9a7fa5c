"""Guessing where a cut is from a sample: right or wrong, the result is that of a search without."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mergecore.compute import group
from mergecore.compute.topk import one_tensor as topk
from mergecore.compute.topk.one_tensor import Search, keys_of
from mergecore.compute.topk.sampled import Guess, Window, window_of
from mergecore.testing import run_method
from mergecore_plugins.methods.ties import TiesParams, mergecore_merge_methods

Floats = np.ndarray[Any, np.dtype[np.floating]]
[TIES] = mergecore_merge_methods()


def passes_and_cut(x: Floats, k: int, sample: Floats | None, block: int = 100) -> tuple[int, Floats]:
    """How many passes a search takes, and what its cut leaves."""
    whole = torch.from_numpy(x.copy())
    blocks = whole.split(block)
    search = Search(k, len(x), len(blocks), whole.dtype)
    if sample is not None:
        keys = keys_of(sample)
        keys.sort()
        search.guess(keys)
    passes = 0
    while not search.found:
        for i, one in enumerate(blocks):
            search.look(i, one)
        search.narrow()
        passes += 1
    for i, one in enumerate(blocks):
        search.cut.trim_(one, i)
    return passes, whole.numpy()


@given(
    st.integers(0, 99),
    st.sampled_from([np.float32, np.float64]),
    st.floats(0, 1),
    st.sampled_from(["normal", "few", "one", "tiny"]),
    st.sampled_from(["every 5th", "first", "others"]),
    st.sampled_from([20, 1 << 21]),
)
def test_the_result_does_not_depend_on_the_sample(
    seed: int, dtype: type[np.floating], density: float, numbers: str, taken: str, candidates: int
) -> None:
    x = np.random.default_rng(seed).standard_normal(500)
    if numbers == "few":
        x = np.round(2 * x) / 2
    if numbers == "one":
        x = np.where(x > 1, x, 0.5)
    if numbers == "tiny":
        x *= 1e-44
    x = x.astype(dtype)
    sample = {"every 5th": x[::5], "first": x[:30], "others": 7 * x[:50] + dtype(3)}[taken]
    k = round(density * len(x))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(topk, "CANDIDATES", candidates)
        _, guessed = passes_and_cut(x, k, np.ascontiguousarray(sample))
        _, plain = passes_and_cut(x, k, None)
    assert np.array_equal(guessed, plain)


def test_a_right_guess_takes_one_pass_and_a_wrong_one_costs_one() -> None:
    x = np.random.default_rng(0).standard_normal(20_000).astype(np.float32)
    plain, _ = passes_and_cut(x, 9000, None, 1000)
    right, _ = passes_and_cut(x, 9000, np.ascontiguousarray(x[::20]), 1000)
    wrong, _ = passes_and_cut(x, 9000, 100 * x[:1000], 1000)
    assert (plain, right, wrong) == (2, 1, 3)


def test_a_window_has_the_wanted_key_and_tells_the_frequent_ones() -> None:
    """Of 1000 keys a third is 50, the others are 1 to 99 evenly; half of all are larger than about 50."""
    sample = np.sort(np.concatenate([np.full(333, 50), np.arange(667) % 99 + 1])).astype(np.uint32)
    window = window_of(sample, 0.5, 64_000, 1 << 21)
    assert window is not None
    assert window.low <= 50 <= window.high
    assert window.heavy == (50,)


def test_a_window_at_an_end_reaches_to_the_last_key_there_is() -> None:
    sample = np.arange(1000, dtype=np.uint32)
    window = window_of(sample, 0.999, 64_000, 1 << 21)
    assert window is not None
    assert window.low == 0
    window = window_of(sample, 0.001, 64_000, 1 << 21)
    assert window is not None
    assert window.high == 2**31 - 1


def test_nothing_is_guessed_where_too_many_keys_would_have_to_be_kept() -> None:
    sample = np.arange(1000, dtype=np.uint32)
    assert window_of(sample, 0.5, 10**6, limit=1000) is None
    assert window_of(sample, 0.5, 10**6, limit=10**6) is not None


def test_heavy_keys_are_counted_and_not_kept() -> None:
    """Keys 7 8 8 8 9 and 8 8 12, in two blocks; 8 is heavy, 12 is above."""
    guess = Guess(Window(7, 10, (8,)), blocks=2, limit=2)
    for index, keys in enumerate(([7, 8, 8, 8, 9], [8, 8, 12])):
        guess.look(index, 2 * np.array(keys, np.uint32))
    assert guess.find(1) is None  # 12
    assert guess.find(2) == (9, 1, [1, 0])
    assert guess.find(3) == (8, 1, [3, 2])
    assert guess.find(7) == (8, 5, [3, 2])
    assert guess.find(8) == (7, 1, [1, 0])
    assert guess.find(9) is None


def test_a_guess_that_keeps_too_many_keys_is_given_up() -> None:
    guess = Guess(Window(7, 10, ()), blocks=1, limit=2)
    guess.look(0, 2 * np.array([7, 8, 9], np.uint32))
    assert guess.find(1) is None


@pytest.mark.parametrize("shape", [(70_000,), (300, 400), (2, 3, 50_001)])
def test_a_tensor_is_sampled_where_it_is_large(
    shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last block is a short one; numbers grow, so the places of the sample matter."""
    count = torch.Size(shape).numel()
    x = (torch.randn(count, generator=torch.Generator().manual_seed(0)) * torch.arange(count)).view(shape)
    params = TiesParams.model_validate({"weight": 1, "density": 0.3, "normalize": False})
    guessed: list[int] = []
    guess = Search.guess

    def counted(search: Search, sample: Any) -> None:
        guessed.append(len(sample))
        guess(search, sample)

    monkeypatch.setattr(group, "BLOCK", 30_000)
    monkeypatch.setattr(Search, "guess", counted)
    result = run_method(TIES, params, [x], torch.zeros_like(x))
    kept = x.flatten().abs().sort(descending=True, stable=True).indices[: int(0.3 * count)]
    assert torch.equal(result.flatten()[kept], x.flatten()[kept])
    assert int(torch.count_nonzero(result)) == len(kept)
    assert len(guessed) == 1
    assert count // 128 <= guessed[0] <= count // 64
