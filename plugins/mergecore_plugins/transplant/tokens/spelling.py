"""The text that a token stands for: vocabularies spell the same text in different ways.

Read `Spelling`; `kinds` tells which one a vocabulary has.  Texts are bytes, since tokens may hold parts of
characters; one that begins a word begins with a space.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal


@dataclass(frozen=True)
class Spelling:
    """How a vocabulary writes text.

    `bytes`: a character for each byte, as in GPT-2; `marks`: ▁ for a space, <0x0A> for a byte, as in
    SentencePiece; `words`: ## (or another prefix) before what continues a word, as in BERT; `plain`: as it is.
    """

    kind: Literal["bytes", "marks", "words", "plain"]
    prefix: str = "##"

    def text(self, token: str) -> bytes:
        """What an ordinary token stands for."""
        if self.kind == "bytes":
            known = _bytes_of_letters()
            return b"".join(known.get(one) or one.encode() for one in token)
        if self.kind == "words":
            return self._text_of_word(token)
        if self.kind == "plain":
            return token.encode()
        if _BYTE.fullmatch(token):
            return bytes([int(token[3:5], 16)])
        return token.replace("▁", " ").encode()

    def written(self, text: bytes) -> list[str | int]:
        """The text as this vocabulary writes it: stretches of characters, and single bytes that are none."""
        if self.kind == "bytes":
            letters = _letters_of_bytes()
            return ["".join(letters[one] for one in text)]
        return [one if isinstance(one, int) else self._written(one) for one in _stretches(text)]

    def _written(self, words: str) -> str:
        if self.kind == "words":
            return words.strip(" ")
        return words.replace(" ", "▁") if self.kind == "marks" else words

    def _text_of_word(self, token: str) -> bytes:
        if self.prefix and token.startswith(self.prefix) and len(token) > len(self.prefix):
            return token[len(self.prefix) :].encode()
        space = " " if any(one.isalnum() for one in token) else ""  # a mark may follow a word without one
        return f"{space}{token}".encode()


def are_bytes(tokens: Sequence[str]) -> bool:
    """Whether tokens of which no file says more are written as bytes, with a letter for the space."""
    letters = _bytes_of_letters().keys()
    fitting = sum(letters >= set(one) for one in tokens)
    return any("Ġ" in one for one in tokens) and fitting >= MOST * len(tokens)


MOST = 0.99
"""The share of tokens that must be written as bytes, where the others are taken for oddities."""


def byte_token(number: int) -> str:
    """How SentencePiece names a byte."""
    return f"<0x{number:02X}>"


def _stretches(text: bytes) -> Iterator[str | int]:
    """The characters of a text, as long stretches, and the bytes between them that are part of none."""
    while text:
        try:
            yield text.decode()
        except UnicodeDecodeError as error:
            if error.start:
                yield text[: error.start].decode()
            yield from text[error.start : error.end]
            text = text[error.end :]
        else:
            return


_BYTE = re.compile(r"<0x[0-9A-Fa-f]{2}>")


@cache
def _letters_of_bytes() -> tuple[str, ...]:
    """The letter for each byte: itself where it can be seen, the next free one from 256 on where not."""
    seen = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    free = iter(range(256, 512))
    return tuple(chr(one) if one in seen else chr(next(free)) for one in range(256))


@cache
def _bytes_of_letters() -> dict[str, bytes]:
    return {letter: bytes([number]) for number, letter in enumerate(_letters_of_bytes())}
