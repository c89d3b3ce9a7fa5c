"""What may be written for a parameter, and its value at one tensor.

A setting is a scalar, a list of scalars (a gradient over the layers of a slice), or cases with a filter on
tensor names.  `parse_setting` gives all of them one form, `Setting.case_for` picks a case, `value_at` reads
a gradient.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from mergecore.config.parameters.filters import Filter, parse_filter
from mergecore.errors import ConfigError, did_you_mean
from mergecore.files.yaml_document import DocPath, PlaceOf, nowhere
from mergecore.types import Json

Scalar: TypeAlias = bool | int | float | str


@dataclass(frozen=True)
class Case:
    """Knots of a gradient (one for a constant, none when nothing is set) and the tensors they are for."""

    knots: tuple[object, ...]
    path: DocPath
    filter: Filter | None = None


@dataclass(frozen=True)
class Setting:
    """What a parameter is set to: cases, of which the first that matches counts."""

    cases: tuple[Case, ...]

    def case_for(self, name: str, role: str = "") -> Case | None:
        """The case for a tensor; None when nothing is set for it."""
        for case in self.cases:
            if case.filter is None or case.filter.matches(name, role):
                return case if case.knots else None
        return None


def parse_setting(raw: Json, name: str, path: DocPath = (), place_of: PlaceOf = nowhere) -> Setting:
    """The setting of parameter `name`, which is written at `path`.

    Raises:
        ConfigError: E104 when it has another form, E105 for a filter that is not a pattern.
    """
    if isinstance(raw, list) and raw and all(isinstance(item, dict) for item in raw):
        return Setting(tuple(_case(item, name, (*path, i), place_of) for i, item in enumerate(raw)))
    if isinstance(raw, dict):
        return Setting((_case(raw, name, path, place_of),))
    return Setting((Case(_knots(raw, name, path, place_of), path),))


def values_of(raw: Json, name: str, tensors: Iterable[tuple[str, str, float]]) -> list[Json]:
    """What a parameter that is written so is at each of several tensors; None where no case is for it.

    tensors: name, role, and position in the slice, from 0 to 1; 0 outside the layers.

    Raises:
        ConfigError: as `parse_setting` does.
    """
    setting = parse_setting(raw, name)
    found: list[Json] = []
    for tensor, role, t in tensors:
        case = setting.case_for(tensor, role)
        value = None if case is None else value_at(case.knots, t)
        assert value is None or isinstance(value, Scalar)
        found.append(value)
    return found


def value_at(knots: Sequence[object], t: float) -> object:
    """The value at position `t` in [0, 1] of a gradient whose knots are evenly spaced.

    Numbers are interpolated linearly.  Anything else changes in steps: element floor(t · (n - 1)), so that
    the last element stands at t = 1 only.
    """
    s = t * (len(knots) - 1)
    low = math.floor(s)
    if not all(isinstance(knot, (int, float)) and not isinstance(knot, bool) for knot in knots):
        return knots[math.floor(s + 1e-9)]  # t is a rounded quotient: 1/49 · 49 falls short of 1
    left, right = knots[low], knots[min(low + 1, len(knots) - 1)]
    assert isinstance(left, (int, float))
    assert isinstance(right, (int, float))
    if low == s or left == right:
        return left
    between = (1 - (s - low)) * left + (s - low) * right
    between = min(max(between, min(left, right)), max(left, right))
    whole = isinstance(left, int) and isinstance(right, int) and abs(between - round(between)) < 1e-9
    return round(between) if whole else between


def _knots(raw: Json, name: str, path: DocPath, place_of: PlaceOf) -> tuple[object, ...]:
    if isinstance(raw, (bool, int, float, str)):
        return (raw,)
    if not isinstance(raw, list):
        what = "has no value" if raw is None else "is a mapping within a case; cases do not nest"
        raise ConfigError(
            "E104",
            f"parameter '{name}' {what}",
            place=place_of(path),
            hint="write a value, or remove the line",
        )
    for i, item in enumerate(raw):
        if not isinstance(item, (bool, int, float, str)):
            what = (
                f"parameter '{name}': a list holds scalars, or mappings with 'filter' and 'value', not both"
            )
            raise ConfigError("E104", what, place=place_of((*path, i)))
    return tuple(raw)


def _case(raw: Json, name: str, path: DocPath, place_of: PlaceOf) -> Case:
    assert isinstance(raw, dict)
    for key in raw:
        if key not in ("filter", "value"):
            near = did_you_mean(key, ("filter", "value"))
            what = f"parameter '{name}': unknown key '{key}' in a case{near}"
            raise ConfigError(
                "E103", what, place=place_of((*path, key)), hint="a case has 'filter' and 'value'"
            )
    if "value" not in raw:
        raise ConfigError("E104", f"parameter '{name}': the case has no 'value'", place=place_of(path))
    knots = _knots(raw["value"], name, (*path, "value"), place_of)
    try:
        chosen = parse_filter(raw.get("filter"))
    except ConfigError as error:
        place = place_of((*path, "filter"))
        raise ConfigError(error.code, f"parameter '{name}': {error.what}", place=place) from None
    return Case(knots, (*path, "value"), chosen)
