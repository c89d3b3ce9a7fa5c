"""A picture of how merged language models do, as SVG without anything from elsewhere; read `picture`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import mean
from xml.sax.saxutils import escape

from benchmarks.evidence_llm.report import AVERAGE, TITLES, Family, Row, rows

WIDTH, LEFT, RIGHT, LINE, TOP = 860, 330, 30, 20, 64
STYLE = """
text { font: 12px system-ui, sans-serif; fill: #222 } .title { font-weight: 600; font-size: 14px }
.grid { stroke: #ccc } .interval { stroke: #1f4e79; stroke-width: 3 } .tuned { fill: #1f4e79 }
.plain { fill: none; stroke: #b35c00; stroke-width: 2 } .average { stroke: #222; stroke-dasharray: 4 3 }
@media (prefers-color-scheme: dark) {
  text { fill: #ddd } .grid { stroke: #444 } .interval { stroke: #7fb2e5 } .tuned { fill: #7fb2e5 }
  .plain { stroke: #f0a04b } .average { stroke: #ddd }
}
"""


def picture(found: Mapping[str, Sequence[Family]]) -> str:
    """For each family a line for each method: where it is with its best scale, and with none."""
    parts: list[str] = []
    y = 0
    for family, seeds in found.items():
        made = rows(seeds)
        parts += _panel(TITLES[family], made, y)
        y += TOP + LINE * len(made) + 40
    said = (
        "Normalised accuracy of each method: a filled dot with the scale that was picked, a ring with none."
    )
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y}" role="img" aria-label="{said}">'
    )
    return "\n".join([head, f"<title>{said}</title>", f"<style>{STYLE}</style>", *parts, "</svg>", ""])


def _panel(title: str, made: Sequence[Row], top: int) -> list[str]:
    bottom = top + TOP + LINE * len(made)
    parts = [f'<text class="title" x="12" y="{top + 24}">{escape(title)}</text>']
    for share in range(0, 101, 20):
        x = _x(share)
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{top + TOP - 16}" y2="{bottom}"/>')
        parts.append(f'<text x="{x:.1f}" y="{top + TOP - 22}" text-anchor="middle">{share} %</text>')
    average = next((mean(row.tuned) for row in made if row.name == AVERAGE), None)
    if average is not None:
        x = _x(average)
        parts.append(f'<line class="average" x1="{x:.1f}" x2="{x:.1f}" y1="{top + TOP - 16}" y2="{bottom}"/>')
    for number, row in enumerate(made):
        parts += _line(row, top + TOP + LINE * number, average)
    return parts


def _line(row: Row, y: int, average: float | None) -> list[str]:
    tuned, plain = _x(mean(row.tuned)), _x(mean(row.default))
    name = "averaging" if row.name == AVERAGE else row.name
    parts = [f'<text x="{LEFT - 12}" y="{y + 4}" text-anchor="end">{escape(name)}</text>']
    if average is not None and row.name != AVERAGE:
        own = mean(row.tuned) - row.gain  # averaging, with the seeds of this row
        low, high = _x(own + row.low), _x(own + row.high)
        parts.append(
            f'<line class="interval" x1="{low:.1f}" x2="{high:.1f}" y1="{y}" y2="{y}" opacity="0.35"/>'
        )
    parts.append(f'<circle class="plain" cx="{plain:.1f}" cy="{y}" r="5"/>')
    parts.append(f'<circle class="tuned" cx="{tuned:.1f}" cy="{y}" r="4"/>')
    return parts


def _x(share: float) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * min(max(share, 0.0), 105.0) / 105
