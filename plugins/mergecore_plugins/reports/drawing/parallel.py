"""Several numbers of each of several things, on axes side by side; read `parallel`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mergecore_plugins.reports.drawing.axes import Scale, number_text, shortened, text, width_of
from mergecore_plugins.reports.html import ROLE, figure

_HIGH, _TOP, _APART = 260, 40, 150


@dataclass(frozen=True)
class Axis:
    """A number of each thing, None where it has none; with `words`, these stand for 0, 1, 2, …"""

    name: str
    values: Sequence[float | None]
    words: Sequence[str] = ()


def parallel(title: str, sentence: str, axes: Sequence[Axis], strong: Sequence[bool]) -> str:
    """A line for each thing through its numbers; `strong` ones are drawn above the others, and thicker.

    The numbers stand in a table elsewhere.
    """
    bottom = _TOP + _HIGH
    left = 12 + width_of([shortened(axes[0].name, 20)]) / 2 if axes else 12
    apart = max(_APART, 24 + width_of([shortened(one.name, 20) for one in axes]))
    scales = [Scale.around(_known(one), bottom, _TOP) for one in axes]
    places = [left + apart * i for i in range(len(axes))]
    parts = []
    for high in (False, True):
        for thing, is_strong in enumerate(strong):
            if is_strong == high:
                parts.append(_line(axes, scales, places, thing, "l" if high else "l o f"))
    for one, scale, x in zip(axes, scales, places, strict=True):
        parts.append(f'<path class="g" style="stroke:currentColor" d="M{x:.0f} {_TOP}V{bottom}"/>')
        parts.append(text(x, _TOP - 12, shortened(one.name, 20), "m"))
        marks = [(float(i), word) for i, word in enumerate(one.words)]
        for value, words in marks or [(tick, number_text(tick)) for tick in scale.ticks(4)]:
            parts.append(text(x + 5, scale(value) + 4, shortened(words, 16), "q"))
    width = left + apart * max(0, len(axes) - 1) + 90
    size = f'width="{width:.0f}" height="{bottom + 12}" viewBox="0 0 {width:.0f} {bottom + 12}"'
    return figure(title, sentence, f"<svg {ROLE} {size}>{''.join(parts)}</svg>", "")


def _known(one: Axis) -> list[float]:
    found = [value for value in one.values if value is not None]
    return [*found, *(float(i) for i in range(len(one.words)))]


def _line(
    axes: Sequence[Axis], scales: Sequence[Scale], places: Sequence[float], thing: int, kind: str
) -> str:
    known = [
        f"{x:.1f} {scale(value):.1f}"
        for one, scale, x in zip(axes, scales, places, strict=True)
        if (value := one.values[thing]) is not None
    ]
    return f'<path class="{kind}" d="M{"L".join(known)}"/>' if len(known) > 1 else ""
