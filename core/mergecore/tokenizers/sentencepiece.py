"""The pieces of a sentencepiece model: as much of its protobuf encoding as they need; read `read_pieces`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

_UNKNOWN, _CONTROL, _USER_DEFINED = 2, 3, 4


@dataclass(frozen=True)
class Piece:
    """A token of the model; special ones are never cut out of ordinary text."""

    text: str
    special: bool
    control: bool = False
    """Whether it stands for no text at all, as the beginning of one."""


def read_pieces(data: bytes) -> list[Piece]:
    """The pieces, by id.

    Raises:
        ValueError: saying why it is not such a model.
    """
    pieces = [_piece(value) for field, value in _fields(data) if field == 1 and isinstance(value, bytes)]
    if not pieces:
        raise ValueError("it holds no pieces")
    return pieces


def _piece(data: bytes) -> Piece:
    fields = dict(_fields(data))
    text = fields.get(1)
    if not isinstance(text, bytes):
        raise ValueError("a piece has no text")
    kind = fields.get(3)
    return Piece(text.decode(), kind in (_CONTROL, _USER_DEFINED), kind in (_CONTROL, _UNKNOWN))


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Number and value of each field of a message: a number, or the bytes of what is not one."""
    at = 0
    while at < len(data):
        tag, at = _number(data, at)
        field, wire = tag >> 3, tag & 7
        if wire == 0:
            value, at = _number(data, at)
            yield field, value
            continue
        size = 4
        if wire == 2:
            size, at = _number(data, at)
        elif wire == 1:
            size = 8
        elif wire != 5:
            raise ValueError(f"unknown kind of field at byte {at}")
        if at + size > len(data):
            raise ValueError("it ends early")
        yield field, data[at : at + size]
        at += size


def _number(data: bytes, at: int) -> tuple[int, int]:
    """The number of variable length at `at`, and where the next thing begins."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise ValueError("it ends early")
        value |= (data[at] & 0x7F) << shift
        at += 1
        if data[at - 1] < 0x80:
            return value, at
    raise ValueError(f"a number has no end at byte {at}")
