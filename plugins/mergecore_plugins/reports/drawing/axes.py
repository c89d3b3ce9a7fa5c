"""From numbers to places on a picture; read `Scale`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

LETTER = 6.4
"""The width of a letter."""
DASHES = ("", "7 3", "2 3", "9 3 2 3")
"""How lines are told apart without colours."""


@dataclass(frozen=True)
class Scale:
    """Numbers from `low` to `high`, drawn from `start` to `end`."""

    low: float
    high: float
    start: float
    end: float

    @classmethod
    def around(cls, values: Iterable[float], start: float, end: float) -> Scale:
        """A scale that has all `values`, with a little room at its ends."""
        finite = [one for one in values if math.isfinite(one)] or [0.0]
        low, high = min(finite), max(finite)
        room = 0.05 * (high - low) or abs(high) * 0.1 or 1.0
        return cls(low - room, high + room, start, end)

    def __call__(self, value: float) -> float:
        """The place of a number."""
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)

    def ticks(self, count: int = 5) -> list[float]:
        """Round numbers within it, some `count` of them."""
        rough = (self.high - self.low) / count
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(one * power for one in (1, 2, 5, 10) if one * power >= 0.7 * rough)
        first = math.ceil(self.low / step)
        return [i * step for i in range(first, math.floor(self.high / step) + 1)]


def number_text(value: float) -> str:
    """A number on an axis or in a table: four digits."""
    return f"{value:.4g}"


def across(scale: Scale, top: float, bottom: float) -> str:
    """Vertical lines at round numbers, with the numbers below."""
    parts = []
    for one in scale.ticks():
        x = scale(one)
        parts.append(f'<path class="g" d="M{x:.1f} {top:.0f}V{bottom:.0f}"/>')
        parts.append(f'<text class="m q" x="{x:.1f}" y="{bottom + 15:.0f}">{number_text(one)}</text>')
    return "".join(parts)


def upward(scale: Scale, left: float, right: float) -> str:
    """Horizontal lines at round numbers, with the numbers to their left."""
    parts = []
    for one in scale.ticks(4):
        y = scale(one)
        parts.append(f'<path class="g" d="M{left:.0f} {y:.1f}H{right:.0f}"/>')
        parts.append(f'<text class="e q" x="{left - 6:.0f}" y="{y + 4:.1f}">{number_text(one)}</text>')
    return "".join(parts)


def text(x: float, y: float, words: str, kind: str = "") -> str:
    """Words at a place; `kind`: classes of the style sheet."""
    return f'<text x="{x:.1f}" y="{y:.1f}"{f" class={kind!r}" if kind else ""}>{escape(words)}</text>'


def shortened(words: str, most: int = 32) -> str:
    """Words that fit beside a picture: the middle of long ones is left out."""
    return words if len(words) <= most else f"{words[: most // 2 - 1]}…{words[-(most // 2 - 1) :]}"


def width_of(words: Sequence[str]) -> float:
    """The width of the longest."""
    return LETTER * max((len(one) for one in words), default=0)
