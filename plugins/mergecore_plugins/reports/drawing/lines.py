"""Numbers over time, as lines and marks: drawn here, and again by uPlot where scripts run; read `lines`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from mergecore_plugins.reports.drawing.axes import DASHES, Scale, across, number_text, text, upward
from mergecore_plugins.reports.html import ROLE, data_table, figure

_WIDE, _HIGH, _LEFT, _TOP = 620, 260, 64, 12


@dataclass(frozen=True)
class Line:
    """Numbers over x, None where there is none; as marks, or joined by a line."""

    name: str
    values: Sequence[float | None]
    marks: bool = False


def lines(
    title: str, sentence: str, x: Sequence[float], each: Sequence[Line], *, axes: tuple[str, str]
) -> str:
    """A picture of `each` line over `x`, and a table.

    axes: what x is, and what the numbers are.
    """
    every = [value for one in each for value in one.values if value is not None]
    right, bottom = _WIDE - 8, _HIGH - 34
    over, up = Scale.around(x, _LEFT, right), Scale.around(every, bottom, _TOP)
    parts = [across(over, _TOP, bottom), upward(up, _LEFT, right)]
    parts += [_drawn(one, i, x, over, up) for i, one in enumerate(each)]
    parts += [text((_LEFT + right) / 2, _HIGH - 4, axes[0], "m q")]
    names = " · ".join(f"{one.name} ({'marks' if one.marks else _DASHED[i]})" for i, one in enumerate(each))
    parts += [text(_LEFT, _HIGH + 14, f"{axes[1]}: {names}", "q")]
    size = f'width="{_WIDE}" height="{_HIGH + 20}" viewBox="0 0 {_WIDE} {_HIGH + 20}"'
    table = _table(title, x, each, axes) if len(x) <= _MOST_ROWS else ""
    svg = f"<svg {ROLE} {size}>{''.join(parts)}</svg>"
    return figure(title, sentence, svg, table, live=_live(title, sentence, x, each, axes))


def _table(title: str, x: Sequence[float], each: Sequence[Line], axes: tuple[str, str]) -> str:
    rows = [
        [number_text(at), *("" if value is None else number_text(value) for value in values)]
        for at, *values in zip(x, *(one.values for one in each), strict=True)
    ]
    return data_table([axes[0], *(one.name for one in each)], rows, closed=f"{title} as a table")


_MOST_ROWS = 1000
"""Of a table; pages with more have them in another one."""
_DASHED = ("solid", "dashed", "dotted", "dash-dotted")


def _drawn(one: Line, number: int, x: Sequence[float], over: Scale, up: Scale) -> str:
    points = [(over(at), up(value)) for at, value in zip(x, one.values, strict=True) if value is not None]
    if one.marks:
        return f'<path class="p" d="{"".join(f"M{a:.1f} {b:.1f}h0" for a, b in points)}"/>'
    path = "M" + "L".join(f"{a:.1f} {b:.1f}" for a, b in points) if points else ""
    return f'<path class="l" style="stroke-dasharray:{DASHES[number % len(DASHES)] or "none"}" d="{path}"/>'


def _live(title: str, sentence: str, x: Sequence[float], each: Sequence[Line], axes: tuple[str, str]) -> str:
    """What the script draws of: the same numbers."""
    told = {
        "axes": axes,
        "data": [[*x], *([*one.values] for one in each)],
        "lines": [
            {"name": one.name, "marks": one.marks, "dash": [*map(int, DASHES[i % len(DASHES)].split())]}
            for i, one in enumerate(each)
        ],
    }
    label = escape(f"{title}. {sentence}", quote=True)
    return f'<div class="live" hidden aria-label="{label}" data-plot="{escape(json.dumps(told), quote=True)}"></div>'
