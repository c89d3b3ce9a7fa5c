"""Which tensors of the output are merged at all; the others are copied from the base as they are stored."""

from __future__ import annotations

from collections.abc import Sequence

from mergecore.errors import ConfigError, Place
from mergecore.settings import Filter


class Selection:
    """What `include` and `exclude` of a config say."""

    def __init__(self, include: Sequence[Filter], exclude: Sequence[Filter]) -> None:
        self._include = include
        self._exclude = exclude
        self._matched: set[str] = set()
        self._roles: set[str] = set()
        self.chosen = 0
        """How many tensors were asked for and are merged."""

    def takes(self, name: str, role: str) -> bool:
        """Whether an output tensor is merged: some `include` matches it, if there are any, and no `exclude`."""
        wanted = self._any(self._include, name, role) or not self._include
        taken = not self._any(self._exclude, name, role) and wanted
        self.chosen += taken
        return taken

    def check(self, place: Place | None) -> None:
        """Raise E105 when nothing is merged."""
        if not self.chosen and (self._include or self._exclude):
            hint = "; ".join(self.idle()) or "they exclude all that they include"
            raise ConfigError("E105", "include and exclude select no tensor", place=place, hint=hint)

    def idle(self) -> list[str]:
        """A sentence for each selector that matched no tensor."""
        texts = dict.fromkeys(one.text for one in (*self._include, *self._exclude))
        return [
            f"the selector '{text}' matches no tensor{self._there_are(text)}"
            for text in texts
            if text not in self._matched
        ]

    def _there_are(self, text: str) -> str:
        """The roles that there are, for a selector of another one."""
        kinds = dict.fromkeys(role.split(".")[0] for role in sorted(self._roles) if role)
        return f"; the roles here are {', '.join(kinds)}" if text.startswith("role:") and kinds else ""

    def _any(self, filters: Sequence[Filter], name: str, role: str) -> bool:
        self._roles.add(role)
        found = [one.text for one in filters if one.matches(name, role)]
        self._matched.update(found)
        return bool(found)
