"""The text that a token stands for: vocabularies spell the same text in different ways.

Read `spelling_of`.  Texts are bytes, since tokens may hold parts of characters; one that begins a word begins
with a space.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import Literal

from mergecore.types import TokenTable


@dataclass(frozen=True)
class Spelling:
    """How a vocabulary writes text.

    `bytes`: a character for each byte, as in GPT-2; `marks`: ▁ for a space, <0x0A> for a byte, as in
    SentencePiece; `words`: ## before what continues a word, as in BERT.
    """

    kind: Literal["bytes", "marks", "words"]

    def text(self, token: str) -> bytes:
        """What an ordinary token stands for."""
        if self.kind == "bytes":
            known = _bytes_of_letters()
            return b"".join(known.get(one) or one.encode() for one in token)
        if self.kind == "words":
            return _text_of_word(token)
        if _BYTE.fullmatch(token):
            return bytes([int(token[3:5], 16)])
        return token.replace("▁", " ").encode()

    def written(self, text: bytes) -> str:
        """The text as this vocabulary writes it."""
        if self.kind == "bytes":
            letters = _letters_of_bytes()
            return "".join(letters[one] for one in text)
        words = text.decode(errors="replace")
        return words.strip(" ") if self.kind == "words" else words.replace(" ", "▁")


def spelling_of(table: TokenTable) -> Spelling:
    """How the ordinary tokens of a vocabulary are written, which they show themselves."""
    ordinary = [token for token in table.ids if token not in table.special]
    if table.kind == "WordPiece" or (not table.kind and any(one.startswith("##") for one in ordinary)):
        return Spelling("words")
    letters = _bytes_of_letters().keys()
    fitting = sum(letters >= set(one) for one in ordinary)
    spaced = any("Ġ" in one for one in ordinary)
    return Spelling("bytes" if spaced and fitting >= MOST * len(ordinary) else "marks")


MOST = 0.99
"""The share of tokens that must be written as bytes, where the others are taken for oddities."""


_BYTE = re.compile(r"<0x[0-9A-Fa-f]{2}>")


def _text_of_word(token: str) -> bytes:
    if token.startswith("##") and len(token) > 2:
        return token[2:].encode()
    space = " " if any(one.isalnum() for one in token) else ""  # a mark may follow a word without one
    return f"{space}{token}".encode()


@cache
def _letters_of_bytes() -> tuple[str, ...]:
    """The letter for each byte: itself where it can be seen, the next free one from 256 on where not."""
    seen = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    free = iter(range(256, 512))
    return tuple(chr(one) if one in seen else chr(next(free)) for one in range(256))


@cache
def _bytes_of_letters() -> dict[str, bytes]:
    return {letter: bytes([number]) for number, letter in enumerate(_letters_of_bytes())}
