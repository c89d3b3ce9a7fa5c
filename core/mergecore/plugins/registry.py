"""Who provides which name, and what is wrong with the others; `Registry` is the way in.

Every plugin is loaded on its own when something it may provide is wanted.  One that cannot be used is kept
with the reason, and everything else goes on.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

import click

from mergecore.errors import ConfigError, MergecoreError, PluginError, did_you_mean
from mergecore.files.exhaustion import exhausted
from mergecore.plugins.discovery import BLOCKED_BY, Entry, Plugin, installed
from mergecore.plugins.loading import Loader, Offer, told
from mergecore.plugins.session import in_session, of_session
from mergecore.types import (
    Architecture,
    Executor,
    MergeMethod,
    ModelSource,
    OutputWriter,
    Recipe,
    TokenizerStrategy,
)

if TYPE_CHECKING:
    from mergecore.types.events import Event

__all__ = ["WORD_OF", "Plugin", "Registry"]

WORD_OF: Mapping[type, str] = {
    ModelSource: "model source",
    Architecture: "architecture",
    TokenizerStrategy: "tokenizer strategy",
    MergeMethod: "merge method",
    Recipe: "recipe",
    Executor: "executor",
    OutputWriter: "output writer",
    click.Command: "command",
}

V = TypeVar("V")


@dataclass
class _Slot:
    """A plugin as the registry works on it."""

    plugin: Plugin
    load: Entry
    offers: list[Offer] = field(default_factory=list)


class Registry:
    """The installed plugins, loaded one by one when they are needed."""

    def __init__(self, found: Iterable[tuple[Plugin, Entry]]) -> None:
        self._installed = tuple(found)
        self._slots = [_Slot(plugin, load) for plugin, load in self._installed]
        self._names = {slot.plugin.name for slot in self._slots if slot.plugin.status != "blocked"}
        self._loader = Loader(self._names)
        self._contests: dict[tuple[type, str], str] = {}
        self._complete = False
        self._deaf: set[str] = set()
        self._contest_entry_points()

    @classmethod
    def discover(cls, disabled: Collection[str] = (), environ: Mapping[str, str] | None = None) -> Registry:
        """The installed plugins; those in `disabled` or blocked by the environment stay out.

        environ: the environment variables to go by; None for those of this process.

        Raises:
            ConfigError: E606 when `disabled` names what is not installed.
        """
        return cls(installed(disabled, os.environ if environ is None else environ))

    def with_methods(self, *methods: MergeMethod[Any]) -> Registry:
        """A registry that also has `methods`, which need no package: for notebooks and scripts.

        A method that was added earlier under the same name is replaced, so a cell can run again.

        Raises:
            PluginError: E602 for the name of an installed plugin.
        """
        added = {method.name: method for method in methods}
        kept = [(one, load) for one, load in self._installed if not (in_session(one) and one.name in added)]
        for plugin, _ in kept:
            if plugin.name in added:
                what = f"the plugin '{plugin.name}' ({plugin.origin}) is installed already"
                raise PluginError("E602", what, plugin=plugin.name, hint="give your method another name")
        return type(self)([*kept, *(of_session(method) for method in added.values())])

    def get(self, kind: type[V], name: str) -> V:
        """The value of `kind` called `name`.

        Raises:
            ConfigError: E108 for a name near one that exists, E606 for another that nobody provides.
            PluginError: E601 to E605 or E607 when the plugin that should provide it cannot be used.
        """
        for slot in self._called(name):
            self._load(slot)
        found = [offer for offer in self._offers(kind, name) if offer.plugin == name]
        if not found:
            self.load_all()
            found = self._offers(kind, name)
        if not found:
            raise self._absent(kind, name)
        value = found[0].value
        assert isinstance(value, kind)
        return value

    def all(self, kind: type[V]) -> list[V]:
        """Every usable value of `kind`, by name."""
        self.load_all()
        offers = sorted(self._offers(kind), key=lambda offer: offer.name)
        return [offer.value for offer in offers if isinstance(offer.value, kind)]

    def commands(self) -> dict[str, click.Command]:
        """Subcommands that plugins add, by name."""
        self.load_all()
        offers = self._offers(click.Command)
        return {offer.name: offer.value for offer in offers if isinstance(offer.value, click.Command)}

    def provider(self, kind: type, name: str) -> Plugin:
        """The plugin that provides what `get` returns."""
        self.get(kind, name)
        offer = self._offers(kind, name)[0]
        return next(slot.plugin for slot in self._active() if slot.plugin.name == offer.plugin)

    def plugins(self) -> list[Plugin]:
        """Every plugin, loaded, with its state."""
        self.load_all()
        return [slot.plugin for slot in self._slots]

    def unusable(self) -> list[Plugin]:
        """The plugins that cannot be used, wholly or in part, although nobody blocks them."""
        return [plugin for plugin in self.plugins() if plugin.reason and plugin.status != "blocked"]

    @contextmanager
    def calling(self, kind: type, name: str) -> Iterator[None]:
        """While the value `name` of another distribution is at work, blame what it raises on its plugin.

        Raises:
            PluginError: E604.
        """
        plugin = self.provider(kind, name)
        try:
            yield
        except MergecoreError:
            raise
        except (Exception, SystemExit) as error:
            if plugin.built_in:
                raise  # a bug of ours, which keeps its traceback, or what the caller knows more of
            if lacking := exhausted(error):
                raise lacking from error
            what = f"{WORD_OF[kind]} '{name}' of plugin '{plugin.distribution}' ({plugin.origin}) failed: "
            hint = "--debug shows where; report it to the authors of the plugin"
            raise PluginError("E604", what + told(error), plugin=plugin.name, hint=hint) from error

    def report(self, event: Event) -> list[str]:
        """Tell every reporter of `event`; return a sentence for each that failed and will hear no more."""
        self.load_all()
        failures = []
        for name, hear in self._loader.reporters().items():
            if name in self._deaf:
                continue
            try:
                hear(event)
            except (Exception, SystemExit) as error:  # noqa: BLE001 - a reporter is somebody else's code
                self._deaf.add(name)
                origin = next(slot.plugin.origin for slot in self._active() if slot.plugin.name == name)
                failures.append(f"reporter '{name}' ({origin}) failed and is silenced: {told(error)}")
        return failures

    def load_all(self) -> None:
        """Load every plugin that is neither blocked nor contested, and settle who owns which name."""
        if not self._complete:
            for slot in self._slots:
                self._load(slot)
            self._contest_values()
            self._complete = True

    # ---- loading ----

    def _load(self, slot: _Slot) -> None:
        if slot.plugin.status != "not loaded":
            return
        try:
            slot.offers = self._loader.load(slot.plugin.name, slot.load)
        except PluginError as error:
            slot.plugin = replace(slot.plugin, status="broken", reason=str(error), code=error.code)
        else:
            slot.plugin = replace(slot.plugin, status="active", provides=self._provided(slot))

    def _provided(self, slot: _Slot) -> tuple[str, ...]:
        hears = slot.plugin.name in self._loader.reporters()
        return (*(str(offer) for offer in slot.offers), *(("Reporter",) if hears else ()))

    # ---- conflicts ----

    def _contest_entry_points(self) -> None:
        for name in self._names:
            slots = [slot for slot in self._called(name) if slot.plugin.status != "blocked"]
            if len(slots) > 1:
                reason = _claims(name, [slot.plugin for slot in slots])
                for slot in slots:
                    slot.plugin = replace(slot.plugin, status="contested", reason=reason, code="E602")

    def _contest_values(self) -> None:
        claims: dict[tuple[type, str], list[_Slot]] = {}
        for slot in self._active():
            for offer in slot.offers:
                claims.setdefault((offer.kind, offer.name), []).append(slot)
        for (kind, name), slots in claims.items():
            if len(slots) > 1:
                reason = _claims(name, [slot.plugin for slot in slots])
                self._contests[kind, name] = reason
                for slot in slots:
                    self._withdraw(slot, (kind, name), reason)

    def _withdraw(self, slot: _Slot, claim: tuple[type, str], reason: str) -> None:
        """Take a contested value away from a plugin, which keeps what else it has."""
        slot.offers = [offer for offer in slot.offers if (offer.kind, offer.name) != claim]
        provides = self._provided(slot)
        status = "active" if provides else "contested"
        reasons = "; ".join(filter(None, (slot.plugin.reason, reason)))
        slot.plugin = replace(slot.plugin, status=status, provides=provides, reason=reasons, code="E602")

    # ---- what is not there ----

    def _absent(self, kind: type, name: str) -> MergecoreError:
        """Why nobody provides the value `name`."""
        if reason := self._contests.get((kind, name)):
            return PluginError("E602", reason, hint="block one of them with --no-plugin")
        plugins = [slot.plugin for slot in self._called(name)]
        plugins.sort(key=lambda plugin: (plugin.status == "blocked", plugin.built_in))
        for plugin in plugins:
            if plugin.status in _UNUSABLE:
                return _refusal(f"{WORD_OF[kind]} '{name}'", plugin)
        known = sorted(offer.name for offer in self._offers(kind))
        others = [f"{slot.plugin.name} ({slot.plugin.status})" for slot in self._slots if slot.plugin.reason]
        also = f"; cannot be used, and may provide it: {', '.join(others[:5])}" if others else ""
        hint = f"installed: {', '.join(known)}{also}"
        near = did_you_mean(name, known)
        if near and _is_slip(name, known):
            return ConfigError("E108", f"'{name}' is no {WORD_OF[kind]}{near}", hint=hint)
        what = f"{WORD_OF[kind]} '{name}': no installed plugin provides it{near}"
        return ConfigError("E606", what, hint=hint)

    def _called(self, name: str) -> list[_Slot]:
        return [slot for slot in self._slots if slot.plugin.name == name]

    def _active(self) -> list[_Slot]:
        return [slot for slot in self._slots if slot.plugin.status == "active"]

    def _offers(self, kind: type, name: str | None = None) -> list[Offer]:
        return [
            offer
            for slot in self._active()
            for offer in slot.offers
            if offer.kind is kind and name in (None, offer.name)
        ]


# ---- words -------------------------------------------------------------------------------------------------

_UNUSABLE = ("broken", "contested", "blocked")


def _refusal(what: str, plugin: Plugin) -> PluginError:
    """The error for a value whose plugin cannot be used."""
    if plugin.status == "contested":
        hint = f"block one of them, for example with --no-plugin {plugin.distribution}:{plugin.name}"
        return PluginError("E602", plugin.reason, plugin=plugin.name, hint=hint)
    if plugin.status == "blocked":
        told = f"{what} comes with '{plugin.distribution}' {plugin.version}, which is {plugin.reason}"
        hint = BLOCKED_BY[plugin.reason.removeprefix("blocked by ")]
        return PluginError("E607", told, plugin=plugin.name, hint=hint)
    told = (
        f"{what} comes with plugin '{plugin.name}' ({plugin.origin}), which cannot be used: {plugin.reason}"
    )
    return PluginError(plugin.code, told, plugin=plugin.name)


def _is_slip(name: str, known: Sequence[str]) -> bool:
    """Whether a name is that close to a known one that nothing else can be meant."""
    from difflib import get_close_matches

    return bool(get_close_matches(name.lower(), known, n=1, cutoff=0.75))


def _claims(name: str, rivals: Collection[Plugin]) -> str:
    """The sentence that names all who claim a name, others before the built-in one."""
    ordered = sorted(rivals, key=lambda rival: (rival.built_in, rival.distribution, rival.name))
    who = " and ".join(f"{rival.name} ({rival.origin})" for rival in ordered)
    number = "two" if len(ordered) == 2 else str(len(ordered))
    return f"{number} plugins claim the name '{name}': {who}; none of them gets it"
