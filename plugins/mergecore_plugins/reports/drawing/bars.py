"""Shares of a whole as bars; read `bars`."""

from __future__ import annotations

from collections.abc import Mapping

from mergecore_plugins.reports.drawing.axes import number_text, shortened, text, width_of
from mergecore_plugins.reports.html import ROLE, data_table, figure

_ROW, _WIDE = 24, 320


def bars(title: str, sentence: str, values: Mapping[str, float], *, of: str = "value") -> str:
    """A bar for each of `values`, which are not negative, from top to bottom, and a table."""
    names = [shortened(name) for name in values]
    left = 16 + width_of(names)
    most = max(values.values(), default=0.0) or 1.0
    parts = []
    for i, (name, value) in enumerate(zip(names, values.values(), strict=True)):
        y, long = 4 + _ROW * i, _WIDE * value / most
        parts.append(text(0, y + 14, name))
        parts.append(f'<rect class="b" x="{left:.0f}" y="{y + 3}" width="{max(1.0, long):.1f}" height="16"/>')
        parts.append(text(left + long + 8, y + 15, number_text(value)))
    width, height = left + _WIDE + 76, 8 + _ROW * len(values)
    size = f'width="{width:.0f}" height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}"'
    rows = [[name, number_text(value)] for name, value in values.items()]
    table = data_table(["name", of], rows, closed=f"{title} as a table")
    return figure(title, sentence, f"<svg {ROLE} {size}>{''.join(parts)}</svg>", table)
