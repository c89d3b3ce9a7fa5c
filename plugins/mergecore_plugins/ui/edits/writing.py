"""Values as YAML text, in one line or in several; read `flow` and `block`."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence

from mergecore.errors import ConfigError, MergecoreError
from mergecore.files import parse_documents
from mergecore.types import Json

WIDTH = 100
"""A mapping or a list of a line may be as long; those of a parameter are never broken."""
_PLAIN = re.compile(r"[A-Za-z0-9_./~*@+-][^\x00-\x1f\x7f#,\[\]{}&!|>'\"%`\\]*")


def scalar(value: Json, style: str = "") -> str:
    """A scalar; a text in quotes of that style, or where it would be read as something else, in double ones."""
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return number(value)
    assert isinstance(value, str)
    if style == "'" and value.isprintable():
        return "'" + value.replace("'", "''") + "'"
    if style != '"' and _PLAIN.fullmatch(value) and _reads_as(value, value):
        return value
    return "".join(
        one if one.isprintable() else _escaped(one) for one in json.dumps(value, ensure_ascii=False)
    )


def number(value: float) -> str:
    """The shortest number that is read as this one."""
    if not math.isfinite(value):
        raise ConfigError("E120", f"{value} cannot be written in a config", hint="use a finite number")
    return repr(value)


def flow(value: Json) -> str:
    """A value in one line."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{scalar(key)}: {flow(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(flow, value)) + "]"
    return scalar(value)


def is_long(value: Json) -> bool:
    """Whether a value reads better in several lines: a list of mappings, or what holds one."""
    if isinstance(value, Mapping):
        return any(map(is_long, value.values())) or len(flow(value)) > WIDTH
    return isinstance(value, list) and bool(value) and any(isinstance(one, Mapping) for one in value)


def block(value: Json, indent: str, *, open_items: bool = False) -> list[str]:
    """The lines of a mapping or a list that is not empty, each with that indent.

    open_items: write the mappings of a list in several lines too, such as those of models.
    """
    if isinstance(value, Mapping):
        return [line for key, one in value.items() for line in pair(key, one, indent, open_items=open_items)]
    assert isinstance(value, Sequence)
    return [line for one in value for line in item(one, indent, open_item=open_items or is_long(one))]


def pair(key: str, value: Json, indent: str, *, open_items: bool = False) -> list[str]:
    """The lines of a key and its value."""
    start = f"{indent}{scalar(key)}:"
    if value and isinstance(value, Mapping | list) and (open_items or is_long(value)):
        return [start, *block(value, indent + "  ", open_items=key == "models")]
    return [f"{start} {flow(value)}"]


def item(value: Json, indent: str, *, open_item: bool = False) -> list[str]:
    """The lines of an item of a list."""
    if open_item and value and isinstance(value, Mapping):
        first, *others = block(value, indent + "  ")
        return [f"{indent}- {first.lstrip()}", *others]
    return [f"{indent}- {flow(value)}"]


def _escaped(letter: str) -> str:
    """A character that does not show, as YAML writes it between double quotes."""
    code = ord(letter)
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _reads_as(text: str, value: Json) -> bool:
    """Whether a plain scalar is read as this value, in a list and as a key."""
    if text.startswith(("- ", "? ", "...", "---")) or text != text.strip():
        return False
    sample = "' a': [TEXT]\n' b': {TEXT: TEXT}\n' c': TEXT\nTEXT: 1\n".replace("TEXT", text)
    try:
        read = parse_documents(sample)
    except MergecoreError:
        return False
    return [one.data for one in read] == [{" a": [value], " b": {value: value}, " c": value, value: 1}]
