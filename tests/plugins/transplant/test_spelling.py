from __future__ import annotations

from typing import Literal

import pytest

from mergecore.types import TokenTable
from mergecore_plugins.transplant.spelling import Spelling, spelling_of


def table(kind: str, *tokens: str) -> TokenTable:
    return TokenTable("tokenizer.json", kind, {one: i for i, one in enumerate(tokens)}, {}, frozenset())


@pytest.mark.parametrize(
    ("kind", "tokens", "found"),
    [
        ("BPE", ("a", "Ġthe", "Ċ"), "bytes"),
        ("BPE", ("a", "▁the", "<0x0A>"), "marks"),
        ("BPE", ("Ġ", "中"), "marks"),  # no byte is written so
        ("Unigram", ("▁the", "s"), "marks"),
        ("WordPiece", ("the", "##s"), "words"),
        ("", ("the", "##s"), "words"),
    ],
)
def test_a_vocabulary_shows_itself_how_it_is_written(kind: str, tokens: tuple[str, ...], found: str) -> None:
    assert spelling_of(table(kind, *tokens)).kind == found


def test_an_odd_token_does_not_change_how_a_vocabulary_is_written() -> None:
    bytes_of_gpt = [f"Ġ{number}" for number in range(99)]
    assert spelling_of(table("BPE", *bytes_of_gpt, "中")).kind == "bytes"
    assert spelling_of(table("BPE", *bytes_of_gpt, "中", "文")).kind == "marks"


@pytest.mark.parametrize(
    ("kind", "token", "text"),
    [
        ("bytes", "Ġthe", b" the"),
        ("bytes", "Ċ", b"\n"),
        ("bytes", "Ã¤", "ä".encode()),
        ("bytes", "Ã", b"\xc3"),  # half a character
        ("marks", "▁the", b" the"),
        ("marks", "<0x0A>", b"\n"),
        ("words", "the", b" the"),
        ("words", "##s", b"s"),
        ("words", ".", b"."),
    ],
)
def test_tokens_stand_for_bytes_whatever_their_spelling(
    kind: Literal["bytes", "marks", "words"], token: str, text: bytes
) -> None:
    assert Spelling(kind).text(token) == text


@pytest.mark.parametrize("text", [b" the", b"\n", "ä".encode(), bytes(range(256))])
def test_bytes_are_written_and_read_back(text: bytes) -> None:
    spelling = Spelling("bytes")
    assert spelling.text(spelling.written(text)) == text


def test_a_text_is_written_with_marks_or_as_a_word() -> None:
    assert Spelling("marks").written(b" in a") == "▁in▁a"
    assert Spelling("words").written(b" in") == "in"
