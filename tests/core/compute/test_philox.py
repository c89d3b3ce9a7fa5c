"""Random numbers that depend on names and positions only."""

from __future__ import annotations

import hashlib
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mergecore.compute.philox import mask, random_key, random_words, uniform

KEY = random_key(0, "model.norm.weight", "0", "mask")


def test_the_stream_is_philox_as_published() -> None:
    """The known answer for key 0 and counter 0."""
    words = random_words(0, 0, 8).view(np.uint64)
    assert [f"{word:016x}" for word in words.tolist()] == [
        "16554d9eca36314c",
        "db20fe9d672d0fdc",
        "d7e772cee186176b",
        "7e68b68aec7ba23b",
    ]


def test_later_words_come_from_later_counters() -> None:
    """Word 8 is the first of counter 1, by six lines of Philox."""
    assert int(random_words(12345, 8, 9)[0]) == philox(12345, 1)[0] & 0xFFFFFFFF
    assert int(random_words(12345, 8_000_011, 8_000_012)[0]) == philox(12345, 1_000_001)[1] >> 32


def philox(key: int, counter: int) -> list[int]:
    words, low, high = [counter, 0, 0, 0], key & (2**64 - 1), key >> 64
    for _ in range(10):
        left, right = 0xD2E7470EE14C6C93 * words[0], 0xCA5A826395121157 * words[2]
        words = [(right >> 64) ^ words[1] ^ low, right % 2**64, (left >> 64) ^ words[3] ^ high, left % 2**64]
        low, high = (low + 0x9E3779B97F4A7C15) % 2**64, (high + 0xBB67AE8584CAA73B) % 2**64
    return words


@given(st.integers(0, 200), st.lists(st.integers(0, 60), max_size=6))
def test_any_split_of_a_range_gives_the_same_words(start: int, sizes: list[int]) -> None:
    ends = [start, *(start + sum(sizes[: i + 1]) for i in range(len(sizes)))]
    parts = [random_words(KEY, first, last) for first, last in pairwise(ends)]
    together = np.concatenate(parts) if parts else np.empty(0, np.uint32)
    assert together.tolist() == random_words(KEY, start, ends[-1]).tolist()


def test_every_name_has_a_stream_of_its_own() -> None:
    keys = {
        random_key(seed, tensor, slot, purpose)
        for seed in (0, 1)
        for tensor in ("a", "ab", "")
        for slot in ("0", "1")
        for purpose in ("mask", "uniform")
    }
    assert len(keys) == 24
    assert random_key(1, "1", "0", "mask") != random_key(11, "", "0", "mask")


def test_the_key_is_the_digest_of_the_names() -> None:
    text = b"mergecore-rng/1\x007\x00model.norm.weight\x002\x00mask"
    assert (
        random_key(7, "model.norm.weight", "2", "mask").to_bytes(16, "little")
        == hashlib.sha256(text).digest()[:16]
    )


def test_streams_of_two_names_do_not_go_together() -> None:
    first, second = (
        uniform(random_words(random_key(0, name, "0", "mask"), 0, 100_000)) for name in ("a", "b")
    )
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.015  # 4.7 standard deviations of 1/sqrt(100000)


def test_uniform_numbers_are_multiples_of_2_to_the_minus_24() -> None:
    # the upper 24 bits: 0x00000100 -> 1, 0x000000ff -> 0, all ones -> 2^24 - 1
    words = np.array([0x100, 0xFF, 0xFFFFFFFF], np.uint32)
    assert (uniform(words) * 2.0**24).tolist() == [1, 0, 2**24 - 1]
    assert uniform(words).dtype == np.float32


@pytest.mark.parametrize(
    ("probability", "expected"),
    [
        (0.0, [False, False, False]),
        (2.0**-32, [True, False, False]),  # a threshold of 1: the word 0 alone is below it
        (0.5, [True, True, False]),
        (1.0, [True, True, True]),
        (1.5, [True, True, True]),
        (-0.5, [False, False, False]),
    ],
)
def test_a_mask_is_true_below_the_threshold(probability: float, expected: list[bool]) -> None:
    words = np.array([0, 2**31 - 1, 2**32 - 1], np.uint32)
    assert mask(words, probability).tolist() == expected


def test_a_mask_holds_the_fraction_that_was_asked_for() -> None:
    # 200,000 draws at 0.3: the standard deviation of the fraction is 0.001
    assert abs(mask(random_words(KEY, 0, 200_000), 0.3).mean() - 0.3) < 0.005
