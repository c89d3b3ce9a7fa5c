"""Who provides which name, and what is wrong with the others; `Registry` is the way in.

Every plugin is loaded on its own when something it may provide is wanted.  One that cannot be used is kept
with the reason, and everything else goes on.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, is_dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from mergecore.errors import ConfigError, MergecoreError, PluginError, did_you_mean
from mergecore.files.exhaustion import exhausted
from mergecore.plugins.claims import (
    Claim,
    chosen,
    contest,
    cure_of,
    how_to_choose,
    of_distribution,
    told_unusable,
    why_not,
)
from mergecore.plugins.discovery import Entry, Plugin, installed
from mergecore.plugins.loading import Loader, Offer, told
from mergecore.plugins.session import in_session, of_session
from mergecore.plugins.streams import Streams
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

if TYPE_CHECKING:
    from mergecore.types.events import Event

__all__ = ["WORD_OF", "Plugin", "Registry"]

WORD_OF: Mapping[type, str] = {
    ModelSource: "model source",
    Architecture: "architecture",
    TokenizerStrategy: "tokenizer strategy",
    MergeMethod: "merge method",
    Recipe: "recipe",
    MoeFamily: "MoE family",
    Executor: "executor",
    OutputWriter: "output writer",
    SideFile: "side file",
    Policy: "policy",
    Evaluator: "evaluator",
    Sampler: "sampler",
    click.Command: "command",
}

V = TypeVar("V")


@dataclass
class _Slot:
    """A plugin as the registry works on it."""

    plugin: Plugin
    load: Entry
    key: str
    """What distinguishes it from every other plugin: its name, with the distribution where two have one name."""
    offers: list[Offer] = field(default_factory=list)
    lost: Plugin | None = None
    """The plugin with what it does not get, once all are loaded."""


class Registry:
    """The installed plugins, loaded one by one when they are needed."""

    def __init__(self, found: Iterable[tuple[Plugin, Callable[[], object]]]) -> None:
        self._installed = tuple(found)
        names = Counter(plugin.name for plugin, _ in self._installed)
        self._slots = [
            _Slot(one, load, f"{one.name}@{one.distribution}" if names[one.name] > 1 else one.name)
            for one, load in self._installed
        ]
        self._loader = Loader()
        self._streams = Streams()
        self._chosen: dict[tuple[type, str], Claim | None] = {}
        self._complete = False
        self._silenced: set[str] = set()

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
        return self._with(methods, "method")

    def with_sources(self, *sources: ModelSource) -> Registry:
        """A registry that also has `sources` of models, which need no package; otherwise as `with_methods`.

        Raises:
            PluginError: E602 for the name of an installed plugin.
        """
        return self._with(sources, "source")

    def _with(self, values: Sequence[MergeMethod[Any] | ModelSource], word: str) -> Registry:
        added = {value.name: value for value in values}
        kept = [(one, load) for one, load in self._installed if not (in_session(one) and one.name in added)]
        for plugin, _ in kept:
            if plugin.name in added:
                what = f"the plugin '{plugin.name}' ({plugin.origin}) is installed already"
                raise PluginError("E602", what, plugin=plugin.name, hint=f"give your {word} another name")
        made = type(self)([*kept, *(of_session(value) for value in added.values())])
        made._take_over(self)
        return made

    def _take_over(self, other: Registry) -> None:
        """Take what another registry has loaded already; its plugins are not asked again."""
        self._loader = Loader(other._loader)
        loaded = {slot.load: slot for slot in other._slots if slot.plugin.status != "not loaded"}
        self._slots = [
            replace(loaded[slot.load], lost=None) if slot.load in loaded else slot for slot in self._slots
        ]

    def get(self, kind: type[V], name: str) -> V:
        """The value of `kind` called `name`; `NAME@DISTRIBUTION` names one of several that claim a name.

        Raises:
            ConfigError: E108 for a name near one that exists, E606 for another that no plugin provides.
            PluginError: E601 to E605 or E607 when the plugin that should provide it cannot be used.
        """
        claim = self._choose(kind, name)
        if claim is None:
            raise self._absent(kind, name)
        value = claim.offer.value
        assert isinstance(value, kind)
        if "@" in name and is_dataclass(value):  # so that it is found again under the name that was asked for
            return cast("V", replace(value, name=name))  # type: ignore[type-var]
        return value

    def all(self, kind: type[V]) -> list[V]:
        """Every usable value of `kind`, by name."""
        values = [claim.offer.value for claim in self._winners(kind)]
        return [value for value in values if isinstance(value, kind)]

    def contested(self, kind: type[V]) -> list[tuple[str, V]]:
        """The values of `kind` whose names nobody gets, since several claim them, by `NAME@DISTRIBUTION`."""
        self.load_all()
        claims = self._claims(kind)
        lost = [claim for claim in claims if not chosen(self._claims(kind, claim.offer.name))]
        return [
            (f"{claim.offer.name}@{claim.plugin.distribution}", cast("V", claim.offer.value))
            for claim in lost
        ]

    def commands(self) -> dict[str, click.Command]:
        """Subcommands that plugins add, by name."""
        offers = [claim.offer for claim in self._winners(click.Command)]
        return {offer.name: offer.value for offer in offers if isinstance(offer.value, click.Command)}

    def provider(self, kind: type, name: str) -> Plugin:
        """The plugin that provides what `get` returns."""
        claim = self._choose(kind, name)
        if claim is None:
            raise self._absent(kind, name)
        return claim.plugin

    def plugins(self) -> list[Plugin]:
        """Every plugin, loaded, with its state."""
        self.load_all()
        return [slot.lost or slot.plugin for slot in self._slots]

    def offered(self, plugin: Plugin) -> list[tuple[type, Any]]:
        """The values that a plugin provides, each with its kind, without those that do not get their names."""
        self.load_all()
        offers = [
            offer for slot in self._active() if (slot.lost or slot.plugin) is plugin for offer in slot.offers
        ]
        return [(offer.kind, offer.value) for offer in offers if str(offer) in plugin.provides]

    def reporter(self, plugin: Plugin) -> Callable[[Event], object] | None:
        """The function of a plugin that hears events; None where it has none."""
        self.load_all()
        keys = {slot.key for slot in self._active() if (slot.lost or slot.plugin) is plugin}
        return next((hear for key, hear in self._loader.reporters().items() if key in keys), None)

    def unusable(self) -> list[Plugin]:
        """The plugins that cannot be used, wholly or in part, although they are not blocked."""
        return [plugin for plugin in self.plugins() if plugin.reason and plugin.status != "blocked"]

    @contextmanager
    def calling(self, kind: type, name: str) -> Iterator[None]:
        """While the value `name` of another distribution is at work, blame what it raises on its plugin.

        Raises:
            PluginError: E604.
        """
        plugin = self.provider(kind, name)
        try:
            with self._streams.of_plugins():
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
        """Hand `event` to every reporter; return a sentence for each that failed and gets no more events."""
        self.load_all()
        failures = []
        own = {slot.key for slot in self._active() if slot.plugin.built_in}
        for name, hear in self._loader.reporters().items():
            if name in self._silenced:
                continue
            try:
                with self._streams.of_results() if name in own else self._streams.of_plugins():
                    hear(event)
            except (Exception, SystemExit) as error:  # noqa: BLE001 - a reporter is somebody else's code
                self._silenced.add(name)
                origin = next(slot.plugin.origin for slot in self._active() if slot.key == name)
                failures.append(f"reporter '{name}' ({origin}) failed and is silenced: {told(error)}")
        return failures

    def of_results(self) -> AbstractContextManager[None]:
        """While it lasts, what is printed is a result, even where plugins are at work."""
        return self._streams.of_results()

    def load_all(self) -> None:
        """Load every plugin that is not blocked, and note who does not get a name that others claim too."""
        if not self._complete:
            for slot in self._slots:
                self._load(slot)
            self._complete = True
            self._mark_losers()

    # ---- loading ----

    def _load(self, slot: _Slot) -> None:
        if slot.plugin.status != "not loaded":
            return
        begun = time.perf_counter()
        try:
            with self._streams.of_plugins():
                slot.offers = self._loader.load(slot.key, slot.load)
        except PluginError as error:
            cure = error.hint or cure_of(slot.plugin, error.code)
            slot.plugin = replace(slot.plugin, status="broken", reason=error.what, code=error.code, cure=cure)
        else:
            slot.plugin = replace(slot.plugin, status="active", provides=self._provided(slot))
        slot.plugin = replace(slot.plugin, seconds=round(time.perf_counter() - begun, 3))

    def _provided(self, slot: _Slot) -> tuple[str, ...]:
        hears = slot.key in self._loader.reporters()
        return (*(str(offer) for offer in slot.offers), *(("Reporter",) if hears else ()))

    # ---- conflicts ----

    def _claims(self, kind: type, name: str | None = None) -> list[Claim]:
        """What the loaded plugins yield of that kind, under that name."""
        return [
            Claim(slot.plugin, offer)
            for slot in self._active()
            for offer in slot.offers
            if offer.kind is kind and name in (None, offer.name)
        ]

    def _choose(self, kind: type, name: str) -> Claim | None:
        """The claim to the value `name`, or `NAME@DISTRIBUTION`, that counts."""
        if (kind, name) not in self._chosen:
            plain, _, distribution = name.partition("@")
            for slot in self._called(plain):
                self._load(slot)
            claims = self._claims(kind, plain)
            if not any(claim.plugin.built_in for claim in claims) or distribution:
                self.load_all()
                claims = self._claims(kind, plain)
            self._chosen[kind, name] = chosen(
                of_distribution(claims, distribution) if distribution else claims
            )
        return self._chosen[kind, name]

    def _winners(self, kind: type) -> list[Claim]:
        """The claims that count, by name."""
        self.load_all()
        claims = self._claims(kind)
        names = sorted({claim.offer.name for claim in claims})
        found = [chosen([claim for claim in claims if claim.offer.name == name]) for name in names]
        return [claim for claim in found if claim]

    def _mark_losers(self) -> None:
        """Note with every plugin which of its values do not get their names, and why."""
        for slot in self._active():
            lost: dict[str, tuple[str, str]] = {}
            for offer in slot.offers:
                claims = self._claims(offer.kind, offer.name)
                winner = chosen(claims)
                if winner is None or winner.offer is not offer:
                    mine = next(claim for claim in claims if claim.offer is offer)
                    lost[str(offer)] = why_not(mine, claims, WORD_OF[offer.kind])
            if lost:
                provides = tuple(one for one in slot.plugin.provides if one not in lost)
                slot.lost = replace(
                    slot.plugin,
                    status="active" if provides else "contested",
                    provides=provides,
                    reason="; ".join(dict.fromkeys(why for why, _ in lost.values())),
                    cure="; ".join(dict.fromkeys(cure for _, cure in lost.values())),
                    code="E602",
                )

    # ---- what is not there ----

    def _absent(self, kind: type, name: str) -> MergecoreError:
        """Why no plugin provides the value `name`."""
        plain, _, distribution = name.partition("@")
        claims = self._claims(kind, plain)
        if claims and not distribution:
            return PluginError("E602", contest(claims), hint=how_to_choose(claims))
        if claims:
            told = ", ".join(f"{plain}@{claim.plugin.distribution}" for claim in claims)
            what = f"{WORD_OF[kind]} '{name}': no plugin of '{distribution}' provides it"
            return ConfigError("E606", what, hint=f"there is {told}")
        plugins = [slot.plugin for slot in self._called(plain)]
        plugins.sort(key=lambda plugin: (plugin.status == "blocked", plugin.built_in))
        for plugin in plugins:
            if plugin.status in _UNUSABLE:
                return _refusal(f"{WORD_OF[kind]} '{plain}'", plugin)
        known = [claim.offer.name for claim in self._winners(kind)]
        hint = _LISTED.get(kind) or f"installed: {', '.join(known)}"
        near = did_you_mean(name, known)
        if near and _is_slip(name, known):
            return ConfigError("E108", f"unknown {WORD_OF[kind]} '{name}'{near}", hint=hint)
        what = f"{WORD_OF[kind]} '{name}': no installed plugin provides it{near}"
        unusable = told_unusable([slot.plugin for slot in self._slots if slot.plugin.reason])
        cure = f"install the package that has it{_OR_FILE.get(kind, '')}"
        return ConfigError("E606", what, hint=f"{unusable}{cure}; {hint}")

    def _called(self, name: str) -> list[_Slot]:
        return [slot for slot in self._slots if slot.plugin.name == name]

    def _active(self) -> list[_Slot]:
        return [slot for slot in self._slots if slot.plugin.status == "active"]


# ---- words -------------------------------------------------------------------------------------------------

_UNUSABLE = ("broken", "blocked")
_LISTED: Mapping[type, str] = {MergeMethod: "`mergecore methods list` shows those that are installed"}
_OR_FILE: Mapping[type, str] = {MergeMethod: ", or name its file in MERGECORE_METHOD_FILES"}
"""Where a value can come from that no package has."""


def _refusal(what: str, plugin: Plugin) -> PluginError:
    """The error for a value whose plugin cannot be used."""
    if plugin.status == "blocked":
        told = f"{what} comes with '{plugin.distribution}' {plugin.version}, which is {plugin.reason}"
        return PluginError("E607", told, plugin=plugin.name, hint=plugin.cure)
    told = (
        f"{what} comes with plugin '{plugin.name}' ({plugin.origin}), which cannot be used: {plugin.reason}"
    )
    return PluginError(plugin.code, told, plugin=plugin.name, hint=plugin.cure or None)


def _is_slip(name: str, known: Sequence[str]) -> bool:
    """Whether a name is that close to a known one that nothing else can be meant."""
    from difflib import get_close_matches

    return bool(get_close_matches(name.lower(), known, n=1, cutoff=0.75))
