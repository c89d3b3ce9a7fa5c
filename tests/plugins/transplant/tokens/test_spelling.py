from __future__ import annotations

from typing import Literal

import pytest

from mergecore_plugins.transplant.tokens.spelling import Spelling


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
        ("bytes", "##s", b"##s"),
        ("marks", "##s", b"##s"),
        ("plain", "▁a", "▁a".encode()),
    ],
)
def test_tokens_stand_for_bytes_whatever_their_spelling(
    kind: Literal["bytes", "marks", "words", "plain"], token: str, text: bytes
) -> None:
    assert Spelling(kind).text(token) == text


@pytest.mark.parametrize("text", [b" the", b"\n", "ä".encode(), bytes(range(256))])
def test_bytes_are_written_and_read_back(text: bytes) -> None:
    spelling = Spelling("bytes")
    (written,) = spelling.written(text)
    assert isinstance(written, str)
    assert spelling.text(written) == text


def test_a_text_is_written_with_marks_or_as_a_word() -> None:
    assert Spelling("marks").written(b" in a") == ["▁in▁a"]
    assert Spelling("words").written(b" in") == ["in"]
    assert Spelling("plain").written(b" in") == [" in"]


@pytest.mark.parametrize(
    ("text", "written"),
    [
        (b"\xe4", [0xE4]),
        (b" a\xe4\xb8", ["▁a", 0xE4, 0xB8]),
        (b"\x80\xbf b", [0x80, 0xBF, "▁b"]),
        ("中".encode(), ["中"]),
        ("\ufffd".encode(), ["\ufffd"]),
    ],
)
def test_parts_of_characters_are_written_as_bytes(text: bytes, written: list[str | int]) -> None:
    assert Spelling("marks").written(text) == written
