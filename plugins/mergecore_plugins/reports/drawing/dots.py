"""A number for each of several things, as a dot on a line, with its interval as whiskers; read `dots`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mergecore_plugins.reports.drawing.axes import Scale, across, number_text, shortened, text, width_of
from mergecore_plugins.reports.html import ROLE, data_table, figure

_ROW, _WIDE = 24, 380


@dataclass(frozen=True)
class Dot:
    """A number, its interval where there is one, and whether it is drawn full."""

    name: str
    value: float
    low: float | None = None
    high: float | None = None
    full: bool = True


def dots(
    title: str,
    sentence: str,
    rows: Sequence[Dot],
    *,
    line: float | None = None,
    axis: str = "",
    table: str | None = None,
) -> str:
    """A picture of `rows` from top to bottom, and a table.

    line: a number at which a line is drawn, such as that of the model all are compared with.
    axis: what the numbers are.
    table: another table than that of these numbers.
    """
    names = [shortened(one.name) for one in rows]
    left = 16 + width_of(names)
    ends = [end for one in rows for end in (one.value, one.low, one.high) if end is not None]
    scale = Scale.around([*ends, *([line] if line is not None else [])], left, left + _WIDE)
    bottom = 8 + _ROW * len(rows)
    width, height = left + _WIDE + 76, bottom + (36 if axis else 22)
    parts = [across(scale, 4, bottom)]
    if line is not None:
        parts.append(f'<path class="l o" d="M{scale(line):.1f} 4V{bottom}"/>')
    for i, (name, one) in enumerate(zip(names, rows, strict=True)):
        y = 8 + _ROW * (i + 0.5)
        parts.append(text(0, y + 4, name))
        if one.low is not None and one.high is not None:
            x, z = scale(one.low), scale(one.high)
            parts.append(f'<path class="l" d="M{x:.1f} {y}H{z:.1f}M{x:.1f} {y - 5}v10M{z:.1f} {y - 5}v10"/>')
        kind = "d" if one.full else "d h"
        parts.append(f'<circle class="{kind}" cx="{scale(one.value):.1f}" cy="{y}" r="5"/>')
        parts.append(text(left + _WIDE + 8, y + 4, number_text(one.value)))
    if axis:
        parts.append(text(left + _WIDE / 2, height - 4, axis, "m q"))
    size = f'width="{width:.0f}" height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}"'
    if table is None:
        cells = [[one.name, number_text(one.value), _interval(one)] for one in rows]
        table = data_table(["name", axis or "value", "interval"], cells, closed=f"{title} as a table")
    return figure(title, sentence, f"<svg {ROLE} {size}>{''.join(parts)}</svg>", table)


def _interval(one: Dot) -> str:
    return "" if one.low is None or one.high is None else f"{number_text(one.low)} to {number_text(one.high)}"
