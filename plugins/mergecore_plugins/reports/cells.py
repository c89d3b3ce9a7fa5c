"""Numbers as a picture of cells, stronger in colour where they are larger; read `heat_map`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape

from mergecore_plugins.reports.html import ROLE, data_table, figure, paragraph

_HIGH, _LETTER = 18, 6.4
_SHADES = 10
_FAINT, _STRONG = 0.04, 0.7


def _plain(value: float) -> str:
    return f"{value:.3g}"


@dataclass(frozen=True)
class HeatMap:
    """Numbers by row and column.

    title: what the picture is called.  sentence: what to see in it.
    values: by row and column; cells without a number stay empty.
    low, high: the numbers of the faintest and the strongest cell; those of the values if None.
    labels: what stands above the rows' names, such as `layer`.
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
    label: str = ""
    notes: Sequence[str] = ()
    """Sentences that explain it further, such as what a column stands for."""


def heat_map(found: HeatMap) -> str:
    """An inline SVG with the number in every cell, its sentence, and the same as a table."""
    texts = {
        key: found.shown(value)
        for key, value in found.values.items()
        if key[0] in found.rows and key[1] in found.columns
    }
    rows = [[row, *(texts.get((row, column), "") for column in found.columns)] for row in found.rows]
    table = data_table([found.label, *found.columns], rows, closed=f"{found.title} as a table")
    notes = "".join(paragraph(text, soft=True) for text in found.notes)
    return figure(found.title, found.sentence, _picture(found, texts), notes + table)


def _picture(found: HeatMap, texts: Mapping[tuple[str, str], str]) -> str:
    wide = max(40, 10 + _LETTER * max((len(one) for one in texts.values()), default=0))
    left = 14 + _LETTER * max((len(row) for row in (found.label, *found.rows)), default=0)
    longest = max((len(column) for column in found.columns), default=0)
    upright = _LETTER * longest + 8 <= wide
    top = 20.0 if upright else 16 + 0.58 * _LETTER * longest
    width = left + wide * len(found.columns) + (8 if upright else 12 + 0.82 * _LETTER * longest)
    height = top + _HIGH * len(found.rows) + 4
    parts = [f'<text x="0" y="{top - 6:.0f}" class="q">{escape(found.label)}</text>'] if found.label else []
    for i, column in enumerate(found.columns):
        x = left + wide * i
        foot = f"{x + 8:.0f} {top - 6:.0f}"
        place = f'x="{x + wide / 2:.0f}" y="{top - 6:.0f}" class="m"'
        place = place if upright else f'transform="translate({foot}) rotate(-35)"'
        parts.append(f"<text {place}>{escape(column)}</text>")
    shades: dict[int, list[str]] = {}
    for j, row in enumerate(found.rows):
        y = top + _HIGH * j
        parts.append(f'<text x="0" y="{y + 13:.0f}">{escape(row)}</text><g class="m">')
        for i, column in enumerate(found.columns):
            if (row, column) in texts:
                x = left + wide * i
                shade = _shade(found, found.values[row, column])
                shades.setdefault(shade, []).append(f"M{x:.0f} {y:.0f}h{wide:.0f}v{_HIGH}h-{wide:.0f}z")
                text = escape(texts[row, column])
                parts.append(f'<text x="{x + wide / 2:.0f}" y="{y + 13:.0f}">{text}</text>')
        parts.append("</g>")
    cells = "".join(
        f'<path fill-opacity="{_FAINT + (_STRONG - _FAINT) * shade / _SHADES:.2f}" d="{"".join(each)}"/>'
        for shade, each in sorted(shades.items())
    )
    size = f'width="{width:.0f}" height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}"'
    return f'<svg {ROLE} {size}><g class="c">{cells}</g>{"".join(parts)}</svg>'


def _shade(found: HeatMap, value: float) -> int:
    """0 to `_SHADES`, from `low` to `high`."""
    low = min(found.values.values()) if found.low is None else found.low
    high = max(found.values.values()) if found.high is None else found.high
    part = (value - low) / (high - low) if high > low else 0.0
    return round(_SHADES * min(1.0, max(0.0, part)))
