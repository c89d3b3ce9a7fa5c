"""Merge methods without a package: what a notebook or a script hands to `Registry.with_methods`."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pluggy

from mergecore.plugins.discovery import GROUP, Entry, Plugin
from mergecore.types import MergeMethod

hookimpl = pluggy.HookimplMarker(GROUP)
DISTRIBUTION = "<session>"
"""Stands where the others have the name of their package."""


def in_session(plugin: Plugin) -> bool:
    """Whether a plugin has no package."""
    return plugin.distribution == DISTRIBUTION


def of_session(method: MergeMethod[Any]) -> tuple[Plugin, Entry]:
    """A plugin that yields `method`.

    Code without a package has no version, so each registration counts as one of its own: no earlier output
    passes for the work of a function that may have changed since.
    """
    plugin = Plugin(method.name, method.merge.__module__, DISTRIBUTION, secrets.token_hex(4))

    @hookimpl
    def mergecore_merge_methods() -> Iterator[MergeMethod[Any]]:
        yield method

    module = ModuleType(method.name, "A merge method without a package.")
    module.mergecore_merge_methods = mergecore_merge_methods  # type: ignore[attr-defined]
    return plugin, lambda: module
