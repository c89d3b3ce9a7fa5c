"""Things with two numbers each, such as trials with two scores; read `points`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mergecore_plugins.reports.drawing.axes import Scale, across, number_text, shortened, text, upward
from mergecore_plugins.reports.html import ROLE, data_table, figure

_WIDE, _HIGH, _LEFT, _TOP = 560, 340, 64, 12


@dataclass(frozen=True)
class Point:
    """Two numbers; those on the front are drawn full, joined, and named."""

    name: str
    x: float
    y: float
    front: bool = False


def points(title: str, sentence: str, each: Sequence[Point], *, axes: tuple[str, str]) -> str:
    """A picture of `each`, and a table; those on the front come last, above the others."""
    right, bottom = _WIDE - 12, _HIGH - 36
    over = Scale.around([one.x for one in each], _LEFT, right)
    up = Scale.around([one.y for one in each], bottom, _TOP)
    front = sorted((one for one in each if one.front), key=lambda one: one.x)
    parts = [across(over, _TOP, bottom), upward(up, _LEFT, right)]
    if front:
        path = "L".join(f"{over(one.x):.1f} {up(one.y):.1f}" for one in front)
        parts.append(f'<path class="l" d="M{path}"/>')
    for one in sorted(each, key=lambda one: one.front):
        kind = "d" if one.front else "d h o"
        parts.append(f'<circle class="{kind}" cx="{over(one.x):.1f}" cy="{up(one.y):.1f}" r="4.5"/>')
    for one in front if len(front) <= _NAMED else ():
        x = over(one.x)
        kind = "e" if x > (_LEFT + right) / 2 else ""
        parts.append(text(x + (-8 if kind else 8), up(one.y) - 7, shortened(one.name, 24), kind))
    parts.append(text((_LEFT + right) / 2, _HIGH - 4, axes[0], "m q"))
    parts.append(text(_LEFT, _HIGH + 14, f"upward: {axes[1]}; full: on the front", "q"))
    size = f'width="{_WIDE}" height="{_HIGH + 20}" viewBox="0 0 {_WIDE} {_HIGH + 20}"'
    rows = [[one.name, number_text(one.x), number_text(one.y), "yes" if one.front else ""] for one in each]
    table = data_table(["name", *axes, "on the front"], rows, closed=f"{title} as a table")
    return figure(title, sentence, f"<svg {ROLE} {size}>{''.join(parts)}</svg>", table)


_NAMED = 12
"""Points of a front that are named, at most."""
