"""The registry that a plugin is checked with; read `registry_with`."""

from __future__ import annotations

from typing import Any

from mergecore.errors import MergecoreError
from mergecore.plugins.limited import registry_of
from mergecore.plugins.registry import WORD_OF, Registry

__all__ = ["registry_of", "registry_with"]


def registry_with(kind: type[Any], value: object) -> Registry:
    """The installed plugins if one of them yields `value`, else the built-in ones and `value`."""
    name = str(getattr(value, "name", ""))
    discovered = Registry.discover()
    if any(one is value for one in discovered.all(kind)):
        return discovered
    try:
        if discovered.get(kind, name) == value:
            return discovered
    except MergecoreError:
        pass  # it is not installed, or cannot be used; the value itself is at hand
    made = registry_of(value)
    if made.get(kind, name) is not value:
        what = (
            f"{WORD_OF[kind]} '{name}': this is the name of a built-in one, which stays; give yours another"
        )
        raise AssertionError(what)
    return made
