"""Plugins without a package: what a notebook or a script hands to `Registry.with_methods` or `with_sources`."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pluggy

from mergecore.plugins.discovery import GROUP, Entry, Plugin
from mergecore.types import MergeMethod, ModelSource

hookimpl = pluggy.HookimplMarker(GROUP)
DISTRIBUTION = "<session>"
"""Stands where the others have the name of their package."""


def in_session(plugin: Plugin) -> bool:
    """Whether a plugin has no package."""
    return plugin.distribution == DISTRIBUTION


def of_session(value: MergeMethod[Any] | ModelSource) -> tuple[Plugin, Entry]:
    """A plugin that yields `value`.

    Code without a package has no version, so each registration counts as one of its own: no earlier output
    passes for the work of a function that may have changed since.
    """
    code, hook = (
        (value.merge, "mergecore_merge_methods")
        if isinstance(value, MergeMethod)
        else (value.open, "mergecore_model_sources")
    )
    plugin = Plugin(value.name, code.__module__, DISTRIBUTION, secrets.token_hex(4))

    @hookimpl
    def yields() -> Iterator[MergeMethod[Any] | ModelSource]:
        yield value

    module = ModuleType(value.name, "A plugin without a package.")
    setattr(module, hook, yields)
    return plugin, lambda: module
