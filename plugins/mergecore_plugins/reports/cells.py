"""Numbers as a picture of cells, stronger in colour where they are larger; read `heat_map`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape

from mergecore_plugins.reports.html import data_table, paragraph

_CELL, _HIGH, _TOP, _LETTER = 60, 16, 62, 6.6


def _plain(value: float) -> str:
    return f"{value:.3g}"


@dataclass(frozen=True)
class HeatMap:
    """Numbers by row and column.

    title: what the picture is called.  sentence: what to see in it.
    values: by row and column; cells without a number stay empty.
    low, high: the numbers of the faintest and the strongest cell; those of the values if None.
    """

    title: str
    sentence: str
    rows: Sequence[str]
    columns: Sequence[str]
    values: Mapping[tuple[str, str], float]
    low: float | None = None
    high: float | None = None
    shown: Callable[[float], str] = field(default=_plain)
    """How a number is written."""


def heat_map(found: HeatMap) -> str:
    """An inline SVG with the number in every cell, its sentence, and the same as a table."""
    low = min(found.values.values(), default=0.0) if found.low is None else found.low
    high = max(found.values.values(), default=1.0) if found.high is None else found.high
    left = 12 + _LETTER * max((len(row) for row in found.rows), default=0)
    width, height = left + _CELL * len(found.columns) + 8, _TOP + _HIGH * len(found.rows) + 4
    parts = []
    for i, column in enumerate(found.columns):
        foot = f"{left + _CELL * i + 6:.0f} {_TOP - 6}"
        parts.append(f'<text transform="translate({foot}) rotate(-35)">{escape(column)}</text>')
    for j, row in enumerate(found.rows):
        y = _TOP + _HIGH * j
        parts.append(f'<text x="0" y="{y + 12}">{escape(row)}</text>')
        for i, column in enumerate(found.columns):
            if (row, column) in found.values:
                value = found.values[row, column]
                part = (value - low) / (high - low) if high > low else 0.0
                opacity = 0.04 + 0.66 * min(1.0, max(0.0, part))
                x = left + _CELL * i
                parts.append(
                    f'<rect x="{x:.0f}" y="{y}" width="{_CELL}" height="{_HIGH}" fill-opacity="{opacity:.2f}"/>'
                    f'<text x="{x + 4:.0f}" y="{y + 12}">{escape(found.shown(value))}</text>'
                )
    label = escape(f"{found.title}. {found.sentence}", quote=True)
    picture = (
        f'<div class="wide" tabindex="0" role="region" aria-label="{escape(found.title, quote=True)}">'
        f'<svg role="img" aria-label="{label}" width="{width:.0f}" height="{height}" '
        f'viewBox="0 0 {width:.0f} {height}">{"".join(parts)}</svg></div>'
    )
    cells = [
        [
            row,
            *(
                found.shown(found.values[row, column]) if (row, column) in found.values else ""
                for column in found.columns
            ),
        ]
        for row in found.rows
    ]
    numbers = data_table(["", *found.columns], cells, closed=f"{found.title} as a table")
    return f"{paragraph(found.sentence)}{picture}{numbers}"
