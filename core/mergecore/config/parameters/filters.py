"""Filters: which tensors a value of a parameter is for, and with `Selection`, which ones are merged at all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from mergecore.errors import Collector, ConfigError
from mergecore.files.patterns import searcher
from mergecore.files.yaml_document import PlaceOf
from mergecore.types import Json


@dataclass(frozen=True)
class Filter:
    """Which tensors a case is for.

    `*` all; `glob:PATTERN` and `re:PATTERN` by their names; `role:NAME` by what they do, `role:mlp` standing
    for `mlp.up` too; any other text is looked for within their names.
    """

    text: str
    matches: Callable[[str, str], bool]
    """Of the name and the role of a tensor."""


def parse_filter(raw: Json) -> Filter | None:
    """The filter of that text; None for all tensors.

    Raises:
        ConfigError: E104 for what is not a string, E105 for what is not a pattern; without a place.
    """
    if raw is None or raw == "*":
        return None
    if not isinstance(raw, str):
        raise ConfigError("E104", f"a filter must be a string, got {raw!r}; put it in quotes")
    kind, colon, rest = raw.partition(":")
    if colon and kind == "glob":
        return Filter(raw, lambda name, _: fnmatchcase(name, rest))
    if colon and kind == "re":
        try:
            found = searcher(rest)
        except ConfigError as error:
            what = f"the filter '{shortened(raw)}': {error.what}"
            raise ConfigError("E105", what, hint=error.hint) from None
        return Filter(raw, lambda name, _: _found(found, name, raw))
    if colon and kind == "role":
        return Filter(raw, lambda _, role: role == rest or role.startswith(rest + "."))
    return Filter(raw, lambda name, _: raw in name)


def _found(search: Callable[[str], bool], name: str, text: str) -> bool:
    try:
        return search(name)
    except ConfigError as error:
        what = f"the filter '{shortened(text)}': {error.what}"
        raise ConfigError(error.code, what, hint=error.hint) from None


def shortened(text: str) -> str:
    """The beginning of a long text."""
    return text if len(text) <= 80 else f"{text[:77]}..."


class Selection:
    """What `include` and `exclude` of a config say: tensors that are not taken are copied as they are stored."""

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
