"""How two vocabularies differ, counted and in words; read `compare`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mergecore.types import TokenTable


@dataclass(frozen=True)
class Comparison:
    """The tokens of two vocabularies, sorted by what they have in common; in the order of their ids."""

    same: int
    """How many tokens have one id in both."""
    moved: tuple[str, ...]
    """Tokens of both that have two ids."""
    left: tuple[str, ...]
    """Tokens of the first one only."""
    right: tuple[str, ...]
    """Tokens of the second one only."""
    renamed: tuple[tuple[int, str, str], ...]
    """Ids that stand for two tokens, and these."""

    @property
    def differing(self) -> tuple[str, ...]:
        """Every token that is not the same in both."""
        return (*self.moved, *self.left, *self.right)

    def told(self, left: str, right: str) -> str:
        """The counts in words; `left` and `right` name the models."""
        counts = [f"{_tokens(self.same)} shared"]
        if self.moved:
            counts.append(f"{len(self.moved)} shared with other ids")
        return ", ".join([*counts, f"{len(self.left)} only in {left}", f"{len(self.right)} only in {right}"])


def compare(left: TokenTable, right: TokenTable) -> Comparison:
    """How the second vocabulary differs from the first."""
    common = left.ids.keys() & right.ids.keys()
    moved = [token for token in left.ids if token in common and left.ids[token] != right.ids[token]]
    names = {number: token for token, number in right.ids.items()}
    renamed = [
        (number, token, names[number])
        for token, number in left.ids.items()
        if names.get(number, token) != token
    ]
    return Comparison(
        same=len(common) - len(moved),
        moved=_by_id(moved, left),
        left=_by_id([token for token in left.ids if token not in common], left),
        right=_by_id([token for token in right.ids if token not in common], right),
        renamed=tuple(sorted(renamed)),
    )


def _by_id(tokens: Sequence[str], table: TokenTable) -> tuple[str, ...]:
    return tuple(sorted(tokens, key=table.ids.__getitem__))


def _tokens(count: int) -> str:
    return "1 token" if count == 1 else f"{count} tokens"
