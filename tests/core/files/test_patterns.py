"""Regular expressions of a config: they find what Python's engine finds, and none of them hangs."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mergecore.errors import ConfigError
from mergecore.files.patterns import _parser, _Search, searcher  # type: ignore[attr-defined]

NAME = "model.layers.17.self_attn.q_proj.weight"

HANGING = (
    r"(([a-z._0-9])+)+$!",
    r"(a|[a-z._0-9]|.)*$!",
    r"(?:[a-z._]?){60}[a-z._]{60}!",
    r".*.*.*.*.*.*.*.*.*!",
    r"((((.*)*)*)*)*!",
    r"(?=(.*)*!)model",
    r"(.*[aeiou]){12}!",
    r"(?:|.|..|...){40}!",
)


@pytest.mark.parametrize("pattern", HANGING)
def test_a_pattern_with_more_ways_than_anyone_can_wait_for_is_answered(pattern: str) -> None:
    code = f"from mergecore.files.patterns import searcher; print(searcher({pattern!r})({NAME!r}))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=20, env=os.environ, check=True
    )
    assert done.stdout == "False\n"


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        (r"(.+)+weight", True),
        (r"^(?:\w+\.)*\d+\.(?:\w+\.)*weight$", True),  # a number between dots
        (r"^(?:\w+\.)*\d\.(?:\w+\.)*weight$", False),  # 17 has two digits
        (r"^(?!(?:.*)*norm)(?:.*)*$", True),
        (r"(?:.*)*(?<=\.)q_proj\b", True),
        (r"(?:.*)*(?<!\.)q_proj\b", False),
        (r"(?i:(?:.*)*Q_PROJ)", True),
        (r"(?:.*)*Q_PROJ", False),
        (r"(?:[^.]+\.){5}weight", True),
        (r"^(?:[^.]+\.){4}weight", False),
    ],
)
def test_what_repeats_within_repeats_is_matched_all_the_same(pattern: str, found: bool) -> None:
    assert searcher(pattern)(NAME) is found


ATOMS = st.sampled_from(
    [
        "a",
        "b",
        "A",
        ".",
        r"\d",
        r"\w",
        r"\W",
        "[ab]",
        "[^a]",
        "[0-9a]",
        r"\.",
        r"\b",
        r"\B",
        "^",
        "$",
        r"[^\d.]",
    ]
)
REPEATS = st.sampled_from(["*", "+", "?", "*?", "+?", "{2}", "{1,3}", "{0,2}", "{2,}", "??"])
LOOKS = st.sampled_from(["(?={})", "(?!{})", "(?i:{})", "({})"])
PATTERNS = st.recursive(
    ATOMS,
    lambda part: st.one_of(
        st.builds("{}{}".format, part, part),
        st.builds("(?:{}|{})".format, part, part),
        st.builds("(?:{}){}".format, part, REPEATS),
        st.builds(str.format, LOOKS, part),
    ),
    max_leaves=8,
)


@given(PATTERNS, st.text("abA1._ ", max_size=9))
def test_following_all_ways_at_once_finds_what_one_after_the_other_finds(pattern: str, text: str) -> None:
    tree = _parser.parse(pattern)
    assert _Search(tree).found(text) is (re.search(pattern, text) is not None)


def test_a_name_of_any_length_is_searched() -> None:
    assert searcher(".*a.*")("b" * 5_000) is False
    assert searcher(".*a.*")("b" * 5_000 + "a") is True


@pytest.mark.parametrize(
    ("pattern", "what"),
    [
        ("(", "not a regular expression: missing ), unterminated subpattern at position 0"),
        (
            "a" * 2_001,
            "the regular expression has 2001 characters; the limit is 2000. Hint: write a simpler one, or several",
        ),
        ("(" * 900 + ")" * 900, "the regular expression nests too deeply or repeats too often"),
        ("a{99999999999}", "the regular expression nests too deeply or repeats too often"),
        (r"(.*)*\1", "the regular expression repeats so much that it may not use back references"),
    ],
)
def test_what_cannot_be_matched_is_refused(pattern: str, what: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(what)) as caught:
        searcher(pattern)
    assert caught.value.code == "E105"


def test_the_steps_are_counted_and_not_the_seconds() -> None:
    found = searcher("(?=(?:(?:a|b)?(?:b|a)?)*!)")
    for _ in range(3):  # the second time it gives up at once
        with pytest.raises(ConfigError, match="too many ways to match"):
            found("ab" * 400)
