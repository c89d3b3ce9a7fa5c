"""Sizes as people write and read them."""

from __future__ import annotations

import pytest

from mergecore.errors import ConfigError
from mergecore.files.sizes import parse_size, size_text


@pytest.mark.parametrize(
    ("written", "count"),
    [
        ("5GB", 5 * 10**9),
        ("4GiB", 2**32),
        ("500 MB", 500_000_000),
        ("1.5k", 1500),
        ("2tb", 2 * 10**12),
        (20000, 20000),
    ],
)
def test_a_size_is_a_number_of_bytes(written: str | int, count: int) -> None:
    assert parse_size(written) == count


@pytest.mark.parametrize("written", ["", "5XB", "-1GB", "0", "GB", "1e9"])
def test_what_is_no_size_is_told(written: str) -> None:
    with pytest.raises(
        ConfigError, match=f"^'{written}' is not a size. Hint: write for example 500MB, 5GB or 4GiB"
    ) as caught:
        parse_size(written)
    assert caught.value.code == "E105"


@pytest.mark.parametrize(
    ("count", "text"),
    [(12, "12 bytes"), (11_000_061, "11 MB"), (5 * 10**9, "5 GB"), (1500, "1.5 kB"), (10**12, "1 TB")],
)
def test_a_size_is_told_in_three_digits(count: int, text: str) -> None:
    assert size_text(count) == text
