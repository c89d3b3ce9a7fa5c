"""Who gets a name that several plugins claim, and what is reported about the others; read `chosen`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import click

from mergecore.errors import some
from mergecore.plugins.discovery import Plugin, canonical
from mergecore.plugins.loading import Offer
from mergecore.types import Architecture, ModelSource, MoeFamily, Recipe


@dataclass(frozen=True)
class Claim:
    """A plugin, and the value that it yields under a name."""

    plugin: Plugin
    offer: Offer

    @property
    def rank(self) -> int:
        """0 for a built-in, 1 where the plugin itself has the name, 2 for any other."""
        return 0 if self.plugin.built_in else 1 if self.plugin.name == self.offer.name else 2

    @property
    def can_be_named(self) -> bool:
        """Whether a config or a command line can choose the value by its name."""
        return self.offer.kind not in (ModelSource, Architecture, MoeFamily)

    @property
    def choice(self) -> str:
        """What says that this one is meant."""
        before = {Recipe: "recipe: ", click.Command: "mergecore "}.get(self.offer.kind, "")
        return f"'{before}{self.offer.name}@{self.plugin.distribution}'"


def chosen(claims: Sequence[Claim]) -> Claim | None:
    """The claim that counts: the built-in one, else that of the plugin of this name; none where two are alike."""
    if not claims:
        return None
    best = min(claim.rank for claim in claims)
    first = [claim for claim in claims if claim.rank == best]
    return first[0] if len(first) == 1 else None


def of_distribution(claims: Iterable[Claim], distribution: str) -> list[Claim]:
    """The claims of one distribution, whose name may be written as package tools compare it."""
    wanted = canonical(distribution)
    return [claim for claim in claims if canonical(claim.plugin.distribution) == wanted]


def why_not(claim: Claim, claims: Sequence[Claim], word: str) -> tuple[str, str]:
    """Why `claim` does not get its name, which `claims` are about, and how to use it all the same."""
    name, winner = claim.offer.name, chosen(claims)
    if winner is None:
        return contest(claims), how_to_choose(claims)
    ours = winner.plugin.built_in
    block = f"block {'the built-in' if ours else 'that'} one with --no-plugin {blocked_as(winner.plugin)}"
    write = f"write {claim.choice}, or " if claim.can_be_named else ""
    cure = f"to use this one, {write}{block}"
    if ours:
        return f"the name '{name}' is that of a built-in {word}, which stays", cure
    return f"the name '{name}' belongs to the plugin '{winner.plugin.name}' ({winner.plugin.origin})", cure


def contest(claims: Sequence[Claim]) -> str:
    """The sentence that names all who claim a name that none of them gets."""
    name = claims[0].offer.name
    best = min(claim.rank for claim in claims)
    rivals = sorted(
        (claim.plugin for claim in claims if claim.rank == best), key=lambda one: (one.distribution, one.name)
    )
    who = " and ".join(f"{rival.name} ({rival.origin})" for rival in rivals)
    number = "two" if len(rivals) == 2 else str(len(rivals))
    return f"{number} plugins claim the name '{name}': {who}; none of them gets it"


def how_to_choose(claims: Sequence[Claim]) -> str:
    """What to do where none of `claims` gets its name."""
    one = claims[0]
    write = f"write {one.choice} for that one, or " if one.can_be_named else ""
    return f"{write}block one of them, for example with --no-plugin {blocked_as(one.plugin)}"


def cure_of(plugin: Plugin, code: str) -> str:
    """What to do about a plugin that cannot be used for a reason of that code."""
    package = f"'{plugin.distribution}'"
    begin = (
        f"install what it needs, or another version of {package}"
        if code == "E601"
        else f"report it to the authors of {package}, or install another version"
    )
    return f"{begin}; --no-plugin {blocked_as(plugin)} blocks it"


def blocked_as(plugin: Plugin) -> str:
    """What `--no-plugin` takes for this plugin and no other."""
    return f"{plugin.distribution}:{plugin.name}"


def told_unusable(plugins: Sequence[Plugin]) -> str:
    """Which plugins might provide a value and cannot be used, and why; the first part of a hint."""
    told = some([f"{one.name} ({one.status}: {_shortened(one.reason)})" for one in plugins], 3, mark="")
    return f"these cannot be used, and may provide it: {told}; " if plugins else ""


def _shortened(text: str) -> str:
    return text if len(text) <= 200 else text[:197] + "..."
