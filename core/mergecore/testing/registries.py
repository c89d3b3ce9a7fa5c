"""The registry that a plugin is checked with; read `registry_with`."""

from __future__ import annotations

from typing import Any

from mergecore.plugins.limited import registry_of
from mergecore.plugins.registry import Registry

__all__ = ["registry_of", "registry_with"]


def registry_with(kind: type[Any], value: object) -> Registry:
    """The installed plugins if one of them yields `value`, else the built-in ones and `value`."""
    name = str(getattr(value, "name", ""))
    discovered = Registry.discover()
    if any(one is value for one in discovered.all(kind)):
        return discovered
    try:
        found = discovered.get(kind, name)
    except Exception:  # noqa: BLE001 - it is not installed, or cannot be used; the value itself is at hand
        return registry_of(value)
    return discovered if found == value else registry_of(value)
