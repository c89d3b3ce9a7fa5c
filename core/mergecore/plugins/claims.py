"""Who gets a name that several plugins claim, and what is reported about the others; read `chosen`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mergecore.plugins.discovery import Plugin, canonical
from mergecore.plugins.loading import Offer


@dataclass(frozen=True)
class Claim:
    """A plugin, and the value that it yields under a name."""

    plugin: Plugin
    offer: Offer

    @property
    def rank(self) -> int:
        """0 for a built-in, 1 where the plugin itself has the name, 2 for any other."""
        return 0 if self.plugin.built_in else 1 if self.plugin.name == self.offer.name else 2


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


def why_not(claim: Claim, claims: Sequence[Claim], word: str) -> str:
    """Why `claim` does not get its name, which `claims` are about, and how to use it all the same."""
    name, winner = claim.offer.name, chosen(claims)
    if winner is None:
        return contest(claims)
    explicit = f"to use this one, write '{name}@{claim.plugin.distribution}'"
    if winner.plugin.built_in:
        block = f"block the built-in one with --no-plugin {winner.plugin.distribution}:{winner.plugin.name}"
        return f"the name '{name}' is that of a built-in {word}, which stays; {explicit}, or {block}"
    return (
        f"the name '{name}' belongs to the plugin '{winner.plugin.name}' ({winner.plugin.origin}); {explicit}"
    )


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
    blocked = f"{one.plugin.distribution}:{one.plugin.name}"
    return (
        f"write '{one.offer.name}@{one.plugin.distribution}' for that one, or block one of them, "
        f"for example with --no-plugin {blocked}"
    )
