"""What `mergecore plugins` prints; read `plugins_as_text`, then `plugin_as_text`."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import click

from mergecore.cli.show_methods import parameters_as_text, shortened
from mergecore.errors import ConfigError, did_you_mean, printable
from mergecore.plugins.discovery import canonical
from mergecore.plugins.registry import WORD_OF, Plugin, Registry
from mergecore.plugins.words import first_line, module_of, summary_of
from mergecore.types import Json, MergeMethod, MoeFamily, SideFile
from mergecore.types.params import NoParams

WIDTH = 80
SLOW = 1.0
"""Seconds after which importing a plugin is worth a word: every command line waits for it."""

REPORTER = "Reporter"


@dataclass(frozen=True)
class _Line:
    """Something that a plugin provides."""

    kind: str
    name: str
    summary: str
    plugin: Plugin


def plugins_as_text(registry: Registry) -> str:
    """What is wrong with plugins; then what works by kinds, of other packages first; then what is blocked."""
    everyone = registry.plugins()
    lines = [line for plugin in everyone for line in _lines(plugin, registry)]
    others = [line for line in lines if not line.plugin.built_in]
    own = [line for line in lines if line.plugin.built_in]
    wrong = [one for one in everyone if one.reason and one.status != "blocked"]
    blocked = [one for one in everyone if one.status == "blocked"]
    working = sum(one.status == "active" for one in everyone)
    parts = [
        "" if wrong else f"{'The only plugin works' if working == 1 else f'All {working} plugins work'}.",
        _section("Problems", (line for one in wrong for line in _trouble(one))),
        _section("Slow", (_waited(one) for one in everyone if one.seconds >= SLOW and not one.built_in)),
        *_by_kind("From other packages", others),
        *_by_kind("Built in", own),
        _section("Blocked", (f"  {_called(one)}: {one.reason}; {one.cure}" for one in blocked)),
    ]
    end = "`mergecore plugins show NAME` shows one of them and its parameters."
    return "\n\n".join([*filter(None, parts), end])


def plugin_as_text(plugin: Plugin, registry: Registry) -> str:
    """Where a plugin comes from, whether it works, what it provides, and the parameters of that."""
    provided = [f"{line.kind} {line.name}" for line in _lines(plugin, registry)]
    facts = [
        ("plugin", plugin.name),
        ("module", plugin.module),
        ("comes with", plugin.origin),
        ("status", plugin.status),
        ("reason", plugin.reason),
        ("cure", plugin.cure),
        ("provides", ", ".join(provided)),
    ]
    lines = [f"{label:<10}  {text}" for label, text in facts if text]
    for kind, value in registry.offered(plugin):
        if kind is click.Command or not hasattr(value, "params"):
            continue
        if kind is SideFile and value.params is NoParams:
            continue  # most have none, and some plugins bring many
        lines += ["", f"  parameters of {WORD_OF[kind]} '{value.name}'"]
        lines += parameters_as_text(value.params, scopes=kind is MergeMethod)
    return "\n".join(lines)


def plugin_as_json(plugin: Plugin, registry: Registry) -> dict[str, Json]:
    """The same as plain values."""
    values: list[Json] = [
        {"kind": line.kind, "name": line.name, "summary": line.summary} for line in _lines(plugin, registry)
    ]
    facts = asdict(plugin)
    return {**facts, "provides": list(plugin.provides), "built_in": plugin.built_in, "values": values}


def named(name: str, registry: Registry) -> list[Plugin]:
    """The plugins of a name, of a distribution, of both, or else those that provide a value of that name.

    Raises:
        ConfigError: E606.
    """
    everyone = registry.plugins()
    plain, _, distribution = name.partition("@")

    def fits(plugin: Plugin) -> bool:
        called = {plugin.name, *(one.partition(":")[2] for one in plugin.provides)}
        return plain in called and canonical(plugin.distribution) == canonical(distribution)

    if distribution:
        found = [one for one in everyone if fits(one)]
    else:
        found = (
            [one for one in everyone if one.name == name]
            or [
                one for one in everyone if not one.built_in and canonical(one.distribution) == canonical(name)
            ]
            or [one for one in everyone if name in {given.partition(":")[2] for given in one.provides}]
        )
    if not found:
        near = did_you_mean(name, [plugin.name for plugin in everyone])
        hint = "see `mergecore plugins list`"
        raise ConfigError("E606", f"'{name}' is not an installed plugin{near}", hint=hint)
    return found


# ---- what is wrong -----------------------------------------------------------------------------------------


def _called(plugin: Plugin) -> str:
    return f"{plugin.name} ({plugin.origin})"


def _trouble(plugin: Plugin) -> Iterator[str]:
    """What is wrong with a plugin, and what to do."""
    partly = "a part of it cannot be used" if plugin.status == "active" else plugin.status
    yield f"  {_called(plugin)}: {partly}"
    yield f"    why   {plugin.reason}"
    if plugin.cure:
        yield f"    cure  {plugin.cure}"


def _waited(plugin: Plugin) -> str:
    cure = "it should import torch and the like inside its functions"
    return f"  {_called(plugin)}: every command waits {plugin.seconds:.1f} s for its import; {cure}"


# ---- what there is -----------------------------------------------------------------------------------------


def _lines(plugin: Plugin, registry: Registry) -> Iterator[_Line]:
    for kind, value in registry.offered(plugin):
        yield _Line(WORD_OF[kind], value.name, _summary(kind, value), plugin)
    if REPORTER in plugin.provides:
        module = importlib.import_module(plugin.module.partition(":")[0])  # it is loaded
        yield _Line(REPORTER.lower(), plugin.name, first_line(module), plugin)


def _summary(kind: type, value: Any) -> str:
    """What a value does, in one line: what it says itself, else the first line of its module."""
    if kind is click.Command:
        return str(value.get_short_help_str(100))
    if kind is MoeFamily:
        return f"mixtures that are loaded as {value.title}"
    if kind is MergeMethod:
        return summary_of(value)
    if value.summary:
        return str(value.summary)
    functions = (given for given in vars(value).values() if inspect.isfunction(given))
    return next((first_line(module_of(one)) or first_line(one) for one in functions), "")


def _by_kind(title: str, lines: list[_Line]) -> Iterator[str]:
    """A heading, and a part for each kind, in the order in which a merge asks for them."""
    kinds: dict[str, list[_Line]] = {word: [] for word in (*WORD_OF.values(), REPORTER.lower())}
    for line in lines:
        kinds[line.kind].append(line)
    shown = {word: found for word, found in kinds.items() if found}
    for number, (word, found) in enumerate(shown.items()):
        heading = f"{title}\n\n" if number == 0 else ""
        yield heading + "\n".join([f"  {_plural(word)}", *_rows(found)])


def _rows(lines: list[_Line]) -> Iterator[str]:
    width = min(max(len(line.name) for line in lines), 24)
    for line in lines:
        mark = _mark(line)
        room = WIDTH - 4 - max(width, len(line.name)) - 2 - len(mark)
        words = shortened(printable(line.summary), max(room, 12))
        yield f"    {line.name:<{width}}  {words}{mark}".rstrip()


def _mark(line: _Line) -> str:
    """The package of something that is not built in, and its plugin where that is called otherwise."""
    plugin = line.plugin
    if plugin.built_in:
        return ""
    plain = plugin.name == line.name or canonical(plugin.name) == canonical(plugin.distribution)
    called = "" if plain else f", plugin {plugin.name}"
    return f" ({plugin.origin}{called})"


def _plural(word: str) -> str:
    ending = f"{word[:-1]}ies" if word.endswith("y") else f"{word}s"
    return ending[0].upper() + ending[1:]


def _section(title: str, lines: Iterable[str]) -> str:
    """A heading and lines; nothing where there are none."""
    found = list(lines)
    return "\n".join([title, "", *found]) if found else ""
