"""Finds the installed plugins without importing them: the entry points of the group "mergecore".

Read `installed`.  Packages are installed and removed by others, so one that is damaged, or that the user
blocks, is kept with the reason, and the rest goes on.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

import importlib_metadata

from mergecore.errors import ConfigError, did_you_mean, printable

GROUP = "mergecore"
OWN_DISTRIBUTION = "mergecore"

Entry = Callable[[], object]
"""Imports a plugin."""


@dataclass(frozen=True)
class Plugin:
    """One entry point: where it comes from, whether it works, what it provides."""

    name: str
    module: str
    distribution: str
    version: str
    status: str = "not loaded"
    """`active`, `broken`, `blocked`, `contested` or `not loaded`."""
    reason: str = ""
    """Why it, or a part of it, cannot be used."""
    code: str = "E601"
    provides: tuple[str, ...] = ()
    cure: str = ""
    """What the user can do about that."""
    seconds: float = field(default=0.0, compare=False)
    """How long it took to import, with what it imports first."""

    @property
    def origin(self) -> str:
        """Distribution and version, marked when it is this package itself."""
        return f"{self.distribution} {self.version}{', built-in' if self.built_in else ''}"

    @property
    def built_in(self) -> bool:
        """Whether it comes with mergecore itself."""
        return self.distribution == OWN_DISTRIBUTION


BLOCKED_BY: Mapping[str, str] = {
    "--no-plugin": "do without that option",
    "MERGECORE_DISABLE_PLUGINS": "take it off that list",
    "MERGECORE_PLUGINS": "add it to that list",
}
"""What can block a plugin, and what the user does about it."""


def installed(disabled: Collection[str], environ: Mapping[str, str]) -> list[tuple[Plugin, Entry]]:
    """Every installed plugin by name, and how to import it; those that are blocked say by what.

    Plugins are blocked by their name, by their distribution, or by both: `DISTRIBUTION:NAME` or `NAME@DISTRIBUTION`.

    Raises:
        ConfigError: E606 when `disabled` names what is not installed.
    """
    found = sorted(_found(), key=lambda pair: (pair[0].name, pair[0].distribution))
    _check_words(disabled, [plugin for plugin, _ in found])
    denied = _keys(environ.get("MERGECORE_DISABLE_PLUGINS", "").split(","))
    allowed = environ.get("MERGECORE_PLUGINS")

    def settled(plugin: Plugin) -> Plugin:
        names = _keys(_names(plugin))
        if names & _keys(disabled):
            return _blocked(plugin, "--no-plugin")
        if names & denied:
            return _blocked(plugin, "MERGECORE_DISABLE_PLUGINS")
        if allowed is not None and not plugin.built_in and not names & _keys(allowed.split(",")):
            return _blocked(plugin, "MERGECORE_PLUGINS")
        return plugin

    return [(settled(plugin), load) for plugin, load in found]


# ---- entry points ------------------------------------------------------------------------------------------


def stated_api(load: Entry) -> int | None:
    """The `MERGECORE_API` in the source of a plugin that cannot be imported; None when none is found there."""
    point = getattr(load, "__self__", None)
    if not isinstance(point, importlib_metadata.EntryPoint):
        return None
    try:
        spec = find_spec(point.module)
        tree = ast.parse(Path(spec.origin).read_bytes()) if spec and spec.origin else ast.Module([], [])
    except Exception:  # noqa: BLE001 - finding a module imports the packages it is in
        return None
    for node in tree.body:
        match node:
            case ast.Assign(targets=[ast.Name(id="MERGECORE_API")], value=ast.Constant(value=int(api))):
                return api
    return None


class _Named(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def version(self) -> str: ...


def _found() -> Iterator[tuple[Plugin, Entry]]:
    seen = set()
    for distribution in importlib_metadata.distributions():
        try:
            text = distribution.read_text("entry_points.txt") or ""
            points = distribution.entry_points.select(group=GROUP) if GROUP in text else ()
        except Exception as error:  # noqa: BLE001 - the file may hold anything
            name, version = _identity(distribution)
            reason = f"its entry_points.txt cannot be read: {type(error).__name__}: {error}"
            cure = f"install '{name}' again, or remove it"
            broken = Plugin(name, "?", name, version, "broken", printable(reason), cure=cure)
            yield broken, lambda: None
            continue
        if points:
            name, version = _identity(distribution)
            if name not in seen:  # the first on the path is the one that is imported
                yield from ((_record(point, name, version), point.load) for point in points)
            seen.add(name)


def _record(point: importlib_metadata.EntryPoint, distribution: str, version: str) -> Plugin:
    return Plugin(printable(point.name), printable(point.value), distribution, version)


def _identity(distribution: _Named) -> tuple[str, str]:
    """Name and version, question marks where the metadata is gone."""
    try:
        return printable(distribution.name), printable(distribution.version)
    except Exception:  # noqa: BLE001 - an interrupted removal leaves anything behind
        return "?", "?"


# ---- blocking ----------------------------------------------------------------------------------------------


def _names(plugin: Plugin) -> tuple[str, ...]:
    both = f"{plugin.distribution}:{plugin.name}", f"{plugin.name}@{plugin.distribution}"
    return plugin.name, plugin.distribution, *both


def canonical(name: str) -> str:
    """A name as package tools compare it: `my_plugin` is `My-Plugin`."""
    return re.sub(r"[-_.]+", "-", name.strip()).lower()


def _keys(words: Collection[str]) -> set[str]:
    return {canonical(word) for word in words if word.strip()}


def _blocked(plugin: Plugin, by: str) -> Plugin:
    return replace(plugin, status="blocked", reason=f"blocked by {by}", cure=BLOCKED_BY[by])


def _check_words(disabled: Collection[str], plugins: Collection[Plugin]) -> None:
    known = sorted({name for plugin in plugins for name in _names(plugin)})
    for word in disabled:
        if not _keys([word]) & _keys(known):
            near = did_you_mean(word, known)
            raise ConfigError(
                "E606", f"--no-plugin: '{word}' is not installed{near}", hint="see `mergecore plugins list`"
            )
