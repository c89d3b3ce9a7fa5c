"""How values at tensors are written: as a number, a gradient, or cases with filters; read `setting`."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from mergecore import ConfigError
from mergecore.config import values_of
from mergecore.types import Json
from mergecore_plugins.ui.grid.shape import family

DIGITS = 4
"""Decimals of the numbers that are written."""

Case: TypeAlias = "tuple[str | None, Json]"
"""A filter, and the number or the gradient that is for its tensors."""


@dataclass(frozen=True)
class Wanted:
    """A tensor, and the value that it should have: nothing where the value comes from elsewhere."""

    name: str
    role: str
    t: float
    value: float | None
    inside: bool = True
    """Whether it belongs to a layer."""

    @property
    def known(self) -> tuple[str, str, float]:
        """What a setting goes by."""
        return self.name, self.role, self.t


def setting(raw: Json, tensors: Sequence[Wanted], count: int, *, whole: bool = False) -> Json:
    """The simplest setting that gives tensors their values, with as much of the present one as can stay.

    raw: how it is written now; None where it is not.  count: how many layers a gradient goes over.
    whole: whether the values are whole numbers.

    Raises:
        ConfigError: E120 where no setting gives these values.
    """
    fit = _Fit(count, whole)
    mine = [one for one in tensors if one.value is not None]
    plain = fit.fitted(mine) if mine else None
    attempts: list[Callable[[], list[Case]]] = [
        lambda: _single(plain),
        lambda: fit.changed(raw, mine),
        lambda: fit.split(None, mine),
        lambda: [*fit.each(mine, lambda one: family(one.role), "role:"), *_cases(raw)],
        lambda: [*fit.each(mine, lambda one: one.name, "glob:"), *_cases(raw)],
    ]
    for attempt in attempts:
        cases = attempt()
        if cases and fit.right(_written(cases), tensors):
            return _written(fit.shortened(cases, _cases(raw), tensors))
    raise ConfigError(
        "E120", "no setting gives exactly these values", hint="write the cases by hand, with filters"
    )


def _single(value: Json) -> list[Case]:
    return [] if value is None else [(None, value)]


def _written(cases: Sequence[Case]) -> Json:
    if len(cases) == 1 and cases[0][0] is None:
        return cases[0][1]
    return [{"value": value} if text is None else {"filter": text, "value": value} for text, value in cases]


@dataclass(frozen=True)
class _Fit:
    count: int
    whole: bool

    def changed(self, raw: Json, tensors: Sequence[Wanted]) -> list[Case]:
        """The cases that are written, each with the values that its tensors should have."""
        cases = _cases(raw)
        numbers: Any = (
            values_of(
                [{"filter": text, "value": i} for i, (text, _) in enumerate(cases)], "value", _known(tensors)
            )
            if cases
            else [None] * len(tensors)
        )
        made: list[Case] = []
        for i, (text, value) in enumerate(cases):
            own = [one for one, number in zip(tensors, numbers, strict=True) if number == i]
            same = not own or self.right(value, own)
            made += [(text, value)] if same else self.split(text, own, value)
        rest = [one for one, number in zip(tensors, numbers, strict=True) if number is None]
        return [*made, *(self.split(None, rest) if rest else ())]

    def shortened(self, cases: list[Case], present: Sequence[Case], tensors: Sequence[Wanted]) -> list[Case]:
        """The same without cases that change nothing, except those that are there now."""
        filters = {text for text, _ in present if text is not None}
        for case in list(cases):
            less = [one for one in cases if one is not case]
            if less and case[0] not in filters and self.right(_written(less), tensors):
                cases = less
        return cases

    def split(self, text: str | None, tensors: Sequence[Wanted], present: Json = None) -> list[Case]:
        """Cases for tensors of one filter: those that differ from most go first, by what they do.

        present: what is written for them now; it stays for those that have that value already.
        """
        if (value := self.fitted(tensors)) is not None:
            return [(text, value)]
        groups = _by(tensors, lambda one: family(one.role))
        if len(groups) == 1:
            return self._finer(text, tensors)
        stays = [role for role, own in groups.items() if present is not None and self.right(present, own)]
        if stays:
            others = [(role, own) for role, own in groups.items() if role not in stays and role]
            made = [case for role, own in others for case in self.split(f"role:{role}", own)]
            return [*made, (text, present)]
        fits = {role: self.fitted(own) for role, own in groups.items()}
        most = max(groups, key=lambda role: (role == "", fits[role] is not None, _weight(fits, groups, role)))
        made = []
        for role, own in groups.items():
            if role != most and (fits[role] is None or fits[role] != fits[most]):
                made += self.split(f"role:{role}", own)
        return [*made, *self.split(text, [one for one in tensors if _is_like(one, fits, most)])]

    def _finer(self, text: str | None, tensors: Sequence[Wanted]) -> list[Case]:
        """Cases for tensors of one role: those outside the layers first, then by their full roles, then by names."""
        outside = [one for one in tensors if not one.inside]
        inside = [one for one in tensors if one.inside]
        if outside and inside:
            value = self.fitted(inside)
            if value is not None or len(_by(inside, _suffix)) > 1:
                return [*self.each(outside, lambda one: one.name, "glob:"), *self.split(text, inside)]
        for key, kind in (
            (lambda one: one.role, "role:"),
            (_suffix, "glob:*."),
            (lambda one: one.name, "glob:"),
        ):
            if len(_by(tensors, key)) > 1:
                return self.each(tensors, key, kind)
        return []

    def each(self, tensors: Sequence[Wanted], key: Callable[[Wanted], str], kind: str) -> list[Case]:
        """A case for each group; the filters of patterns match whole names."""
        found: list[Case] = []
        for text, own in sorted(_by(tensors, key).items(), key=lambda one: -len(one[0])):
            found += self.split(kind + (_literal(text) if kind != "role:" else text), own)
        return found

    def fitted(self, tensors: Sequence[Wanted]) -> Json:
        """The number or the gradient with the fewest knots; None where there is none."""
        by_t: dict[float, float] = {}
        for one in tensors:
            assert one.value is not None
            if not _near(by_t.setdefault(one.t, one.value), one.value):
                return None
        values = list(by_t.values())
        if all(_near(values[0], one) for one in values):
            return self.rounded(values[0])
        if self.count < 2:
            return None
        wanted = _filled(by_t, self.count)
        for knots in range(2, self.count + 1):
            if (self.count - 1) % (knots - 1) == 0:
                step = (self.count - 1) // (knots - 1)
                chosen: list[Json] = list(wanted[::step])
                if _all_near(chosen, wanted, self.count):
                    return [self.rounded(float(one)) for one in wanted[::step]]
        return None

    def rounded(self, value: float) -> Json:
        """A number as it is written: a few decimals, none where it is whole."""
        short = round(value, DIGITS) if abs(value) >= 0.01 or value == 0 else float(f"{value:.{DIGITS}g}")
        return int(short) if self.whole or short == int(short) else short

    def right(self, raw: Json, tensors: Sequence[Wanted]) -> bool:
        """Whether a setting gives every tensor its value, as far as its decimals go."""
        try:
            found = values_of(raw, "value", _known(tensors))
        except ConfigError:
            return False
        return all(
            (one is None) == (wanted.value is None)
            and (one is None or wanted.value is None or abs(float(one) - wanted.value) <= 0.51 * 10**-DIGITS)  # type: ignore[arg-type]
            for one, wanted in zip(found, tensors, strict=True)
        )


# ---- helpers -----------------------------------------------------------------------------------------------


def _cases(raw: Json) -> list[Case]:
    if raw is None:
        return []
    items = raw if isinstance(raw, list) and raw and isinstance(raw[0], dict) else [raw]
    found: list[Case] = []
    for one in items:
        if isinstance(one, dict):
            text = one.get("filter")
            found.append((None if text is None else str(text), one.get("value")))
        else:
            found.append((None, one))
    return found


def _known(tensors: Iterable[Wanted]) -> list[tuple[str, str, float]]:
    return [one.known for one in tensors]


def _near(a: float, b: float) -> bool:
    return math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-9)


def _all_near(knots: list[Json], wanted: Sequence[float], count: int) -> bool:
    found = values_of(knots, "value", [("", "", i / (count - 1)) for i in range(count)])
    return all(abs(float(str(one)) - value) < 1e-7 for one, value in zip(found, wanted, strict=True))


def _filled(by_t: dict[float, float], count: int) -> list[float]:
    """A value for every layer: between those that are known, on a line."""
    known = {round(t * (count - 1)): value for t, value in by_t.items()}
    places = sorted(known)
    found = []
    for i in range(count):
        low = max((one for one in places if one <= i), default=places[0])
        high = min((one for one in places if one >= i), default=places[-1])
        share = (i - low) / (high - low) if high > low else 0.0
        found.append(known[low] + share * (known[high] - known[low]))
    return found


def _by(tensors: Iterable[Wanted], key: Callable[[Wanted], str]) -> dict[str, list[Wanted]]:
    groups: dict[str, list[Wanted]] = {}
    for one in tensors:
        groups.setdefault(key(one), []).append(one)
    return groups


def _weight(fits: dict[str, Json], groups: dict[str, list[Wanted]], role: str) -> int:
    return sum(len(own) for other, own in groups.items() if fits[other] == fits[role])


def _is_like(one: Wanted, fits: dict[str, Json], most: str) -> bool:
    role = family(one.role)
    return role == most or (fits[most] is not None and fits[role] == fits[most])


def _suffix(one: Wanted) -> str:
    """The name within the layer."""
    return re.split(r"\.\d+\.", one.name, maxsplit=1)[-1]


def _literal(text: str) -> str:
    return re.sub(r"([*?\[])", r"[\1]", text)
