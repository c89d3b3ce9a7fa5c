"""Configs written in Python: the same document as a file's, from values that a Python caller has at hand."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence, Set
from typing import TypeAlias, cast

import numpy as np

from mergecore.errors import ConfigError
from mergecore.files.yaml_document import Document
from mergecore.types import Json

Config: TypeAlias = "Mapping[str, object]"
"""A config as a mapping; its values are those of JSON, paths, tuples, and numbers of numpy."""


def document_of(config: Config, name: str = "config") -> Document:
    """The document that `config` stands for; messages call it `name`.

    Raises:
        ConfigError: E104 for a value that no file could hold, naming the keys that lead to it.
    """
    return Document(name, cast("dict[str, Json]", _plain(config, name)))


def _plain(value: object, place: str) -> Json:
    match value:
        case None | bool() | int() | float() | str():
            return value
        case os.PathLike():
            return os.fsdecode(value)
        case np.generic():
            return _plain(value.item(), place)
        case Mapping():
            return {_key(key, place): _plain(inner, f"{place}.{key}") for key, inner in value.items()}
        case Sequence() | np.ndarray() if not isinstance(value, bytes | bytearray):
            return [_plain(inner, f"{place}[{i}]") for i, inner in enumerate(value)]
    kind = type(value).__name__
    hint = (
        "sets have no order; write a list"
        if isinstance(value, Set)
        else "write text, a number, a list or a dict"
    )
    raise ConfigError("E104", f"a config cannot hold a {kind}", place=place, hint=hint)


def _key(key: object, place: str) -> str:
    if isinstance(key, str):
        return key
    what = f"the key {key!r} is a {type(key).__name__}, not text"
    raise ConfigError("E104", what, place=place, hint="write it in quotes")
