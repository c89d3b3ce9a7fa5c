"""Filters of parameters: which tensors a value is for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase

from mergecore.errors import ConfigError
from mergecore.files.patterns import searcher
from mergecore.types import Json


@dataclass(frozen=True)
class Filter:
    """Which tensors a case is for.

    `*` all; `glob:PATTERN` and `re:PATTERN` by their names; `role:NAME` by what they do, `role:mlp` standing
    for `mlp.up` too; any other text is looked for within their names.
    """

    text: str
    matches: Callable[[str, str], bool]
    """Of the name and the role of a tensor."""


def parse_filter(raw: Json) -> Filter | None:
    """The filter of that text; None for all tensors.

    Raises:
        ConfigError: E104 for what is not a string, E105 for what is not a pattern; without a place.
    """
    if raw is None or raw == "*":
        return None
    if not isinstance(raw, str):
        raise ConfigError("E104", f"a filter must be a string, got {raw!r}; put it in quotes")
    kind, colon, rest = raw.partition(":")
    if colon and kind == "glob":
        return Filter(raw, lambda name, _: fnmatchcase(name, rest))
    if colon and kind == "re":
        try:
            found = searcher(rest)
        except ConfigError as error:
            what = f"the filter '{shortened(raw)}': {error.what}"
            raise ConfigError("E105", what, hint=error.hint) from None
        return Filter(raw, lambda name, _: _found(found, name, raw))
    if colon and kind == "role":
        return Filter(raw, lambda _, role: role == rest or role.startswith(rest + "."))
    return Filter(raw, lambda name, _: raw in name)


def _found(search: Callable[[str], bool], name: str, text: str) -> bool:
    try:
        return search(name)
    except ConfigError as error:
        what = f"the filter '{shortened(text)}': {error.what}"
        raise ConfigError(error.code, what, hint=error.hint) from None


def shortened(text: str) -> str:
    """The beginning of a long text."""
    return text if len(text) <= 80 else f"{text[:77]}..."
