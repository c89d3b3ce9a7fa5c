"""Which token of one vocabulary is which of another: by text, and special ones by text or by what they do.

Read `counterparts`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mergecore.types import Checkpoint, TokenTable
from mergecore_plugins.transplant.tokens.kinds import ROLES, lent_roles, roles_of, spelling_of
from mergecore_plugins.transplant.tokens.spelling import Spelling

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

STRUCTURE = ("eos", "bos", "cls", "sep")
"""Roles of tokens that every text needs: what has another one besides still plays it."""


@dataclass(frozen=True)
class Texts:
    """A vocabulary by what its tokens stand for."""

    table: TokenTable
    spelling: Spelling
    ordinary: Mapping[str, bytes]
    """The text of every token that is found in text."""
    roles: Mapping[str, str] = field(default_factory=dict)
    """The token of each role."""
    lent: frozenset[str] = frozenset()
    """Roles that no file states, and that the tokens of others play besides."""


@dataclass(frozen=True)
class Counterparts:
    """The row of MODEL for each id of the donor, -1 for none; and how many were found in which way."""

    rows: npt.NDArray[np.int64]
    tokens: int
    same: int
    by_text: int
    by_role: int

    @property
    def shared(self) -> int:
        """Tokens of the donor that have a row."""
        return self.same + self.by_text + self.by_role


def texts_of(model: Checkpoint, table: TokenTable) -> Texts:
    """What the tokens of a model stand for.

    Raises:
        MergecoreError: E240 when its tokenizer files are wrong.
    """
    spelling = spelling_of(model, table)
    roles = roles_of(model, table, spelling)
    lent = lent_roles(roles)
    roles |= lent
    ordinary = {
        token: token.encode() if token in table.added else spelling.text(token)
        for token in table.ids
        if not _is_special(token, table, roles)
    }
    return Texts(table, spelling, ordinary, roles, frozenset(lent))


def counterparts(model: Texts, donor: Texts, stored: int) -> Counterparts:
    """The row of each token of the donor in a model of `stored` rows."""
    import numpy as np

    finder = _Finder(model, donor, _by_text(model, stored), stored)
    size = max(donor.table.ids.values(), default=-1) + 1
    rows = np.full(size, -1, dtype=np.int64)
    counts = {"same": 0, "text": 0, "role": 0}
    for token, number in donor.table.ids.items():
        row, how = finder.find(token)
        rows[number] = row
        if row >= 0:
            counts[how] += 1
    return Counterparts(rows, len(donor.table.ids), counts["same"], counts["text"], counts["role"])


@dataclass(frozen=True)
class _Finder:
    model: Texts
    donor: Texts
    by_text: Mapping[bytes, int]
    stored: int

    def find(self, token: str) -> tuple[int, str]:
        """The row of a token of the donor, -1 for none, and how it was found."""
        number = self._stored(token)
        text = self.donor.ordinary.get(token)
        if text is None:
            if number >= 0 and token not in self.model.ordinary:
                return number, "same"
            return self._of_role(token), "role"
        if number >= 0 and self.model.ordinary.get(token) == text:
            return number, "same"
        return self.by_text.get(text, -1), "text"

    def _stored(self, token: str) -> int:
        number = self.model.table.ids.get(token, -1)
        return number if number < self.stored else -1

    def _of_role(self, token: str) -> int:
        """The row of the model's token that does the same, and nothing more important beside it."""
        roles = [role for role in ROLES if self.donor.roles.get(role) == token]
        mine = [
            self.model.roles[role]
            for role in roles
            if role in self.model.roles and (role in STRUCTURE or _first_role(self.model, role) == role)
        ]
        return max((self._stored(one) for one in mine[:1]), default=-1)


def _first_role(texts: Texts, role: str) -> str | None:
    """The most important role of the token that has `role`: one that also pads is not padding."""
    token = texts.roles.get(role)
    return next((one for one in ROLES if token is not None and texts.roles.get(one) == token), None)


def _by_text(model: Texts, stored: int) -> dict[bytes, int]:
    """The row of each text; of several tokens with one text, a longer spelling such as <0x41> comes last."""
    found: dict[bytes, int] = {}
    ids = model.table.ids
    for token in sorted(model.ordinary, key=lambda one: (len(one), ids[one])):
        if ids[token] < stored:
            found.setdefault(model.ordinary[token], ids[token])
    return found


def _is_special(token: str, table: TokenTable, roles: Mapping[str, str]) -> bool:
    if token in roles.values():
        return True
    if token not in table.special:
        return False
    return token not in table.added or bool(table.added[token].get("special"))
