"""What is installed, what is wrong with it, and who provides which name; `Registry` is the way in.

Every plugin is one entry point of the group "mergecore", loaded on its own when something it may provide is
wanted.  One that cannot be used is kept with the reason, and everything else goes on.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeVar

import importlib_metadata
import pluggy

from mergecore import API, hookspecs
from mergecore.errors import ConfigError, PluginError, did_you_mean
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
    import click

    from mergecore.events import Event

GROUP = "mergecore"
OWN_DISTRIBUTION = "mergecore"

HOOK_OF: dict[type, str] = {
    ModelSource: "mergecore_model_sources",
    Architecture: "mergecore_architectures",
    TokenizerStrategy: "mergecore_tokenizer_strategies",
    MergeMethod: "mergecore_merge_methods",
    Recipe: "mergecore_recipes",
    Executor: "mergecore_executors",
    OutputWriter: "mergecore_output_writers",
}

WORD_OF: dict[type, str] = {
    ModelSource: "model source",
    Architecture: "architecture",
    TokenizerStrategy: "tokenizer strategy",
    MergeMethod: "merge method",
    Recipe: "recipe",
    Executor: "executor",
    OutputWriter: "output writer",
}

V = TypeVar("V")
Entry = Callable[[], object]


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
    code: str = "E601"
    provides: tuple[str, ...] = ()

    @property
    def origin(self) -> str:
        """Distribution and version, marked when it is this package itself."""
        built_in = ", built-in" if self.distribution == OWN_DISTRIBUTION else ""
        return f"{self.distribution} {self.version}{built_in}"


@dataclass(frozen=True)
class Offer:
    """A value and the plugin that yields it."""

    kind: str
    name: str
    value: object
    plugin: str


@dataclass
class _Slot:
    """A plugin as the registry works on it."""

    plugin: Plugin
    load: Entry
    offers: list[Offer] = field(default_factory=list)


class Registry:
    """The installed plugins, loaded one by one when they are needed."""

    def __init__(self, slots: Iterable[tuple[Plugin, Entry]]) -> None:
        self._manager = pluggy.PluginManager(GROUP)
        self._manager.add_hookspecs(hookspecs)
        self._slots = [_Slot(plugin, load) for plugin, load in slots]
        self._deaf: set[str] = set()
        self._contest_entry_points()

    @classmethod
    def discover(cls, disabled: Collection[str] = (), environ: Mapping[str, str] = os.environ) -> Registry:
        """The installed plugins; those in `disabled` or blocked by the environment stay out."""
        points = sorted(
            importlib_metadata.entry_points(group=GROUP),
            key=lambda point: (point.name, point.dist.name if point.dist else ""),
        )
        blocked = _blocker(disabled, environ)
        return cls((blocked(_record(point)), point.load) for point in points)

    def get(self, kind: type[V], name: str) -> V:
        """The value of `kind` called `name`.

        Raises:
            ConfigError: E108 for a name near one that exists, E606 for another that nobody provides.
            PluginError: E601, E602, E603 or E607 when the plugin that should provide it cannot be used.
        """
        owners = [slot for slot in self._slots if slot.plugin.name == name]
        for slot in owners:
            self._load(slot)
        found = self._offers(kind, name)
        if not found:
            self.load_all()
            found = self._offers(kind, name)
        if not found:
            raise self._absent(kind, name, owners)
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
        import click

        self.load_all()
        offers = [o for slot in self._active() for o in slot.offers if isinstance(o.value, click.Command)]
        return {offer.name: offer.value for offer in offers if isinstance(offer.value, click.Command)}

    def provider(self, kind: type, name: str) -> Plugin:
        """The plugin that provides a value that `get` returned."""
        offer = self._offers(kind, name)[0]
        return next(slot.plugin for slot in self._slots if offer in slot.offers)

    def plugins(self) -> list[Plugin]:
        """Every plugin, loaded, with its state."""
        self.load_all()
        return [slot.plugin for slot in self._slots]

    def broken(self) -> list[Plugin]:
        """The plugins that were tried and cannot be used."""
        return [slot.plugin for slot in self._slots if slot.plugin.status == "broken"]

    def report(self, event: Event) -> list[str]:
        """Tell every reporter of `event`; return a sentence for each that failed and will hear no more."""
        failures = []
        for impl in self._manager.hook.mergecore_report.get_hookimpls():
            if impl.plugin_name in self._deaf:
                continue
            try:
                impl.function(event)
            except Exception as error:  # noqa: BLE001 - a reporter is somebody else's code
                self._deaf.add(impl.plugin_name)
                failures.append(
                    f"reporter '{impl.plugin_name}' failed and is silenced: {type(error).__name__}: {error}"
                )
        return failures

    def load_all(self) -> None:
        """Load every plugin that is neither blocked nor contested, and settle who owns which name."""
        for slot in self._slots:
            self._load(slot)
        self._contest_values()

    # ---- loading ----

    def _load(self, slot: _Slot) -> None:
        if slot.plugin.status != "not loaded":
            return
        try:
            module = slot.load()
            api = getattr(module, "MERGECORE_API", API)
            if api != API:
                raise PluginError("E603", f"needs mergecore API {api}; this is {API}")
            self._register(module, slot)
            slot.offers = list(self._collect(slot))
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - importing a plugin may raise anything, even SystemExit
            self._manager.unregister(name=slot.plugin.name)
            mine = isinstance(error, PluginError)
            reason = str(error) if mine else f"{type(error).__name__}: {error}"
            code = error.code if isinstance(error, PluginError) else "E601"
            slot.plugin = replace(slot.plugin, status="broken", reason=_one_line(reason), code=code)
            return
        provides = tuple(f"{offer.kind}:{offer.name}" for offer in slot.offers) or self._heard(slot)
        slot.plugin = replace(slot.plugin, status="active", provides=provides)

    def _register(self, module: object, slot: _Slot) -> None:
        self._manager.register(module, slot.plugin.name)
        self._manager.check_pending()  # a misspelled hook would otherwise be ignored in silence
        if not self._manager.get_hookcallers(module):
            raise PluginError("E605", "implements no hook of mergecore")

    def _collect(self, slot: _Slot) -> Iterator[Offer]:
        import click

        kinds: dict[type, str] = {**HOOK_OF, click.Command: "mergecore_commands"}
        owned = {other.plugin.name for other in self._slots if other is not slot}
        for kind, hook in kinds.items():
            for value in self._yielded(hook, slot):
                if not isinstance(value, kind):
                    raise PluginError("E605", f"{hook} yields {value!r}, which is no {kind.__name__}")
                name = getattr(value, "name", None)
                if not isinstance(name, str) or not name:
                    raise PluginError("E605", f"{hook} yields a {kind.__name__} without a name")
                if name in owned and name != slot.plugin.name:
                    raise PluginError(
                        "E602", f"yields the {kind.__name__} '{name}', a name that belongs to plugin '{name}'"
                    )
                yield Offer(kind.__name__, name, value, slot.plugin.name)

    def _yielded(self, hook: str, slot: _Slot) -> Iterator[object]:
        for impl in getattr(self._manager.hook, hook).get_hookimpls():
            if impl.plugin_name == slot.plugin.name:
                yield from impl.function()

    def _heard(self, slot: _Slot) -> tuple[str, ...]:
        impls = self._manager.hook.mergecore_report.get_hookimpls()
        return ("Reporter",) if any(impl.plugin_name == slot.plugin.name for impl in impls) else ()

    # ---- conflicts ----

    def _contest_entry_points(self) -> None:
        for slot in self._slots:
            rivals = [
                other.plugin
                for other in self._slots
                if other.plugin.name == slot.plugin.name and other.plugin.status != "blocked"
            ]
            if len(rivals) > 1 and slot.plugin.status != "blocked":
                slot.plugin = _contested(slot.plugin, slot.plugin.name, rivals)

    def _contest_values(self) -> None:
        claims: dict[tuple[str, str], list[_Slot]] = {}
        for slot in self._active():
            for offer in slot.offers:
                claims.setdefault((offer.kind, offer.name), []).append(slot)
        for (_, name), slots in claims.items():
            if len(slots) > 1:
                rivals = [slot.plugin for slot in slots]
                for slot in slots:
                    slot.plugin = _contested(slot.plugin, name, rivals)

    def _absent(self, kind: type, name: str, owners: list[_Slot]) -> ConfigError | PluginError:
        word = WORD_OF[kind]
        rivals = [s for s in self._slots if s.plugin.status == "contested" and f"'{name}'" in s.plugin.reason]
        for slot in owners or rivals:
            plugin = slot.plugin
            what = f"{word} '{name}' comes with plugin '{plugin.name}' ({plugin.origin})"
            if plugin.status == "blocked":
                source = f"'{plugin.distribution}' {plugin.version}"
                what = f"{word} '{name}' comes with {source}, which is {plugin.reason}"
                return PluginError("E607", what, plugin=plugin.name, hint="take it off that list")
            if plugin.status == "contested":
                return PluginError(
                    "E602", plugin.reason, plugin=plugin.name, hint=f"--no-plugin blocks '{name}'"
                )
            if plugin.status == "broken":
                return PluginError(
                    plugin.code, f"{what}, which cannot be used: {plugin.reason}", plugin=plugin.name
                )
        known = sorted(offer.name for offer in self._offers(kind))
        near = did_you_mean(name, known)
        unusable = [p.name for p in self.broken()]
        also = f"; broken plugins, which may provide it: {', '.join(unusable)}" if unusable else ""
        if near:
            return ConfigError(
                "E108", f"'{name}' is no {word}{near}", hint=f"installed: {', '.join(known)}{also}"
            )
        return ConfigError(
            "E606",
            f"{word} '{name}': no installed plugin provides it",
            hint=f"installed: {', '.join(known)}{also}",
        )

    def _active(self) -> list[_Slot]:
        return [slot for slot in self._slots if slot.plugin.status == "active"]

    def _offers(self, kind: type, name: str | None = None) -> list[Offer]:
        return [
            offer
            for slot in self._active()
            for offer in slot.offers
            if isinstance(offer.value, kind) and name in (None, offer.name)
        ]


def _record(point: importlib_metadata.EntryPoint) -> Plugin:
    distribution = point.dist
    return Plugin(
        name=point.name,
        module=point.value,
        distribution=distribution.name if distribution else "?",
        version=distribution.version if distribution else "?",
    )


def _blocker(disabled: Collection[str], environ: Mapping[str, str]) -> Callable[[Plugin], Plugin]:
    """A function that marks a plugin blocked when the command line or the environment says so."""
    denied = _words(environ.get("MERGECORE_DISABLE_PLUGINS", ""))
    allowed = environ.get("MERGECORE_PLUGINS")

    def mark(plugin: Plugin) -> Plugin:
        names = {plugin.name, plugin.distribution}
        if names & set(disabled):
            return replace(plugin, status="blocked", reason="blocked by --no-plugin")
        if names & denied:
            return replace(plugin, status="blocked", reason="blocked by MERGECORE_DISABLE_PLUGINS")
        if allowed is not None and plugin.distribution != OWN_DISTRIBUTION and not names & _words(allowed):
            return replace(plugin, status="blocked", reason="blocked by MERGECORE_PLUGINS")
        return plugin

    return mark


def _words(text: str) -> set[str]:
    return {word.strip() for word in text.split(",") if word.strip()}


def _contested(plugin: Plugin, name: str, rivals: list[Plugin]) -> Plugin:
    who = " and ".join(
        f"{rival.name} ({rival.origin})"
        for rival in sorted(rivals, key=lambda r: r.distribution, reverse=True)
    )
    return replace(
        plugin, status="contested", reason=f"two plugins claim the name '{name}': {who}; neither is used"
    )


def _one_line(text: str) -> str:
    return " ".join(text.split())
