"""Registries for tests: built-in plugins, and those that a test chooses; read `registry_of`."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from types import ModuleType

from mergecore.errors import ConfigError
from mergecore.plugins.discovery import Entry, Plugin, canonical, installed
from mergecore.plugins.loading import HOOK_OF
from mergecore.plugins.registry import WORD_OF, Registry
from mergecore.plugins.session import DISTRIBUTION, hookimpl


def registry_of(*plugins: object, builtins: bool = True) -> Registry:
    """A registry of chosen plugins alone, beside the built-in ones.

    plugins: modules with hooks; values that hooks yield, such as a `MergeMethod`; or names of installed plugins or
        of their distributions.
    builtins: whether the built-in plugins are there, too.  One with the name of a chosen plugin is left out.

    Raises:
        ConfigError: E606 for a name that is not installed.
    """
    everyone = installed((), {})
    chosen = [pair for one in plugins for pair in _plugins(one, everyone)]
    names = {plugin.name for plugin, _ in chosen}
    own = [pair for pair in everyone if builtins and pair[0].built_in and pair[0].name not in names]
    return Registry([*own, *chosen])


def _plugins(one: object, everyone: list[tuple[Plugin, Entry]]) -> Iterator[tuple[Plugin, Entry]]:
    if isinstance(one, str):
        names = [
            (plugin, load)
            for plugin, load in everyone
            if plugin.name == one or canonical(plugin.distribution) == canonical(one)
        ]
        if not names:
            raise ConfigError("E606", f"registry_of: '{one}' is not an installed plugin")
        yield from names
    elif isinstance(one, ModuleType):
        yield _session(one.__name__.rpartition(".")[2], one.__name__), lambda: one
    else:
        yield _of_value(one)


def _of_value(value: object) -> tuple[Plugin, Entry]:
    """A plugin that yields `value`."""
    kind = next((kind for kind in WORD_OF if isinstance(value, kind)), None)
    if kind is None:
        raise TypeError(
            f"registry_of: {type(value).__name__} is neither a module, nor a name, nor what a hook yields"
        )
    name = str(getattr(value, "name", ""))

    @hookimpl
    def yields() -> Iterator[object]:
        yield value

    module = ModuleType(name, "A plugin of a test.")
    setattr(module, HOOK_OF[kind], yields)
    return _session(name, "?"), lambda: module


def _session(name: str, module: str) -> Plugin:
    return Plugin(name, module, DISTRIBUTION, secrets.token_hex(4))
