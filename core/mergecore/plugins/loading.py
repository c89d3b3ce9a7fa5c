"""Loads one plugin: imports it, checks its hooks, collects what they yield.

Read `Loader.load`.  pluggy stops at the first fault, registers in part and ignores a misspelled hook; here
every fault is a `PluginError` of its plugin alone, and leaves nothing of it behind.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import click
import pluggy

from mergecore.errors import PluginError, did_you_mean, printable, text_of
from mergecore.files.exhaustion import exhausted
from mergecore.plugins import hookspecs
from mergecore.plugins.discovery import GROUP, Entry, stated_api
from mergecore.plugins.values import fault_of
from mergecore.types import (
    Architecture,
    Evaluator,
    Executor,
    MergeMethod,
    ModelSource,
    MoeFamily,
    OutputWriter,
    Policy,
    Recipe,
    Sampler,
    SideFile,
    TokenizerStrategy,
)
from mergecore.version import API

if TYPE_CHECKING:
    from mergecore.types.events import Event

HOOK_OF: Mapping[type, str] = {
    ModelSource: "mergecore_model_sources",
    Architecture: "mergecore_architectures",
    TokenizerStrategy: "mergecore_tokenizer_strategies",
    MergeMethod: "mergecore_merge_methods",
    Recipe: "mergecore_recipes",
    MoeFamily: "mergecore_moe_families",
    Executor: "mergecore_executors",
    OutputWriter: "mergecore_output_writers",
    SideFile: "mergecore_side_files",
    Policy: "mergecore_policies",
    Evaluator: "mergecore_evaluators",
    Sampler: "mergecore_samplers",
    click.Command: "mergecore_commands",
}

OWN_COMMANDS = ("merge", "methods", "plan", "plugins", "schema", "verify")
"""Commands of the core, whose names no plugin can have."""


MOST = 10_000
"""More values than this come from a hook that never ends."""


@dataclass(frozen=True)
class Offer:
    """A value and the plugin that yields it."""

    kind: type
    name: str
    value: object
    plugin: str

    def __str__(self) -> str:
        return f"{self.kind.__name__}:{self.name}"


class Loader:
    """The plugins that are loaded, as pluggy keeps them."""

    def __init__(self, before: Loader | None = None) -> None:
        """`before` has loaded plugins already, which count as loaded here."""
        self._before = before
        self._manager = pluggy.PluginManager(GROUP)
        self._manager.add_hookspecs(hookspecs)

    def load(self, name: str, entry: Entry) -> list[Offer]:
        """What the plugin `name` yields; it is registered when this returns.

        Raises:
            PluginError: E601 when it cannot be imported, E602 when it is loaded already or yields a name
                that is taken, E603 for another API, E604 when a hook raises, E605 when a hook is not as it should be.
        """
        module = _imported(entry)
        other = self.loaded_as(module)
        if other is not None:
            raise PluginError("E602", f"its module is plugin '{other}' already")
        self._check_hooks(module)
        try:
            self._manager.register(module, name)
            return self._collected(name)
        except pluggy.PluginValidationError as error:
            self._manager.unregister(name=name)
            raise PluginError("E605", one_line(str(error))) from error
        except PluginError:
            self._manager.unregister(name=name)
            raise

    def reporters(self) -> dict[str, Callable[[Event], object]]:
        """The functions that take events, by plugin."""
        impls = self._manager.hook.mergecore_report.get_hookimpls()
        before = self._before.reporters() if self._before else {}
        return before | {impl.plugin_name: impl.function for impl in impls}

    def loaded_as(self, module: object) -> str | None:
        """The plugin that a module is already."""
        return self._manager.get_name(module) or (self._before.loaded_as(module) if self._before else None)

    def _check_hooks(self, module: object) -> None:
        """Raise E605 for a misspelled hook, which would be ignored in silence, or when there is none."""
        known = [name for name in dir(hookspecs) if name.startswith(f"{GROUP}_")]
        implemented = []
        for name in dir(module):
            options = self._manager.parse_hookimpl_opts(module, name)
            if options:
                implemented.append(options.get("specname") or name)
        for name in implemented:
            if name not in known:
                raise PluginError("E605", f"there is no hook '{name}'{did_you_mean(name, known)}")
        if not implemented:
            bare = [name for name in known if hasattr(module, name)]
            why = f": '{bare[0]}' lacks the decorator @hookimpl" if bare else ""
            raise PluginError("E605", f"it implements no hook of mergecore{why}")

    def _collected(self, plugin: str) -> list[Offer]:
        offers: list[Offer] = []
        for kind, hook in HOOK_OF.items():
            for value in self._yielded(hook, plugin):
                offer = Offer(kind, _name_of(value, kind, hook), value, plugin)
                if any(str(offer) == str(other) for other in offers):
                    raise PluginError("E602", f"{hook} yields two values called '{offer.name}'")
                self._check_claim(offer, hook)
                with _isolated("E604", f"{hook} yields '{offer.name}', which raised "):
                    if fault := fault_of(value):
                        raise PluginError("E605", f"{hook} yields '{offer.name}', whose {fault}")
                offers.append(offer)
        return offers

    def _check_claim(self, offer: Offer, hook: str) -> None:
        """Raise E602 when the name belongs to the core."""
        if offer.kind is click.Command and offer.name in OWN_COMMANDS:
            raise PluginError("E602", f"{hook} yields '{offer.name}', a command of mergecore itself")

    def _yielded(self, hook: str, plugin: str) -> Iterator[object]:
        for impl in getattr(self._manager.hook, hook).get_hookimpls():
            if impl.plugin_name == plugin:
                with _isolated("E604", f"{hook} raised "):
                    values = impl.function()
                    if not isinstance(values, Iterable):
                        raise PluginError("E605", f"{hook} returns {type(values).__name__}, yields nothing")
                    values = list(islice(values, MOST + 1))
                if len(values) > MOST:
                    raise PluginError("E605", f"{hook} yields more than {MOST} values")
                yield from values


def told(error: BaseException) -> str:
    """What an exception says, in one line; its type alone where it cannot say more."""
    text = text_of(error)
    return one_line(f"{type(error).__name__}: {text}" if text else type(error).__name__)


def one_line(text: str) -> str:
    """`text` without line breaks and control characters."""
    return printable(" ".join(text.split()))


def _imported(entry: Entry) -> object:
    """The module of a plugin, if it is for this mergecore."""
    try:
        with _isolated("E601"):
            module = entry()
            api = getattr(module, "MERGECORE_API", API)
    except PluginError as error:
        stated = stated_api(entry)
        if error.code == "E601" and stated not in (None, API):
            raise _of_another_api(stated, f" ({error.what})") from error
        raise
    if type(api) is not int:
        what = f"it states MERGECORE_API = {printable(repr(api))}; a whole number is expected"
        raise PluginError("E605", what)
    if api != API:
        raise _of_another_api(api)
    return module


def _of_another_api(api: int | None, more: str = "") -> PluginError:
    """Why a plugin that is written for another API cannot be used, and which side to change."""
    newer = (api or 0) > API
    cure = (
        "upgrade mergecore, or install an older version of this plugin"
        if newer
        else "upgrade this plugin; if there is no newer version, ask its authors for one"
    )
    return PluginError("E603", f"it needs mergecore API {api}; this is {API}{more}", hint=cure)


@contextmanager
def _isolated(code: str, prefix: str = "") -> Iterator[None]:
    """Make whatever a plugin raises a `PluginError`, even SystemExit; only the user's interrupt goes on."""
    try:
        yield
    except (KeyboardInterrupt, PluginError):
        raise
    except BaseException as error:
        if lacking := exhausted(error):
            raise lacking from error
        raise PluginError(code, prefix + told(error)) from error


def _name_of(value: object, kind: type, hook: str) -> str:
    """The name of a value that a hook yields; raises E605 when the value cannot be used."""
    if not isinstance(value, kind):
        raise PluginError("E605", f"{hook} yields {type(value).__name__} where {kind.__name__} is expected")
    name = getattr(value, "name", None)
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        what = f"{hook} yields the name {name!r}; letters, digits, '_', '-' and '.' are expected"
        raise PluginError("E605", what)
    return name


_NAME = re.compile(r"[A-Za-z0-9][\w.-]*", re.ASCII)
