"""Which tensors of the output are merged at all; the others are copied from the base as they are stored."""

from __future__ import annotations

from collections.abc import Sequence

from mergecore.config.filters import Filter
from mergecore.errors import Collector, ConfigError
from mergecore.files.yaml_document import PlaceOf


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

    def check(self, place_of: PlaceOf) -> None:
        """Raise E105 for every selector that matched no tensor, and when nothing is merged."""
        problems = Collector()
        for key, filters in (("include", self._include), ("exclude", self._exclude)):
            for one in filters:
                if one.text not in self._matched:
                    what = f"the selector '{one.text}' matches no tensor{self._there_are(one.text)}"
                    problems.add(ConfigError("E105", what, place=place_of((key,))))
        if not problems.errors and not self.chosen and (self._include or self._exclude):
            what, hint = "include and exclude select no tensor", "they exclude all that they include"
            place = place_of(("include",) if self._include else ("exclude",))
            problems.add(ConfigError("E105", what, place=place, hint=hint))
        problems.raise_any()

    def _there_are(self, text: str) -> str:
        """The roles that there are, for a selector of another one."""
        kinds = dict.fromkeys(role.split(".")[0] for role in sorted(self._roles) if role)
        return f"; the roles here are {', '.join(kinds)}" if text.startswith("role:") and kinds else ""

    def _any(self, filters: Sequence[Filter], name: str, role: str) -> bool:
        self._roles.add(role)
        found = [one.text for one in filters if one.matches(name, role)]
        self._matched.update(found)
        return bool(found)
