"""A report as HTML; read `page`.  Whatever comes from models, such as the name of a tensor, is escaped here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from html import escape
from importlib.resources import files


@dataclass(frozen=True)
class Part:
    """A part of a report: its heading, and HTML of the functions of this package below it."""

    title: str
    body: Sequence[str]


def page(title: str, summary: Sequence[str], parts: Sequence[Part]) -> str:
    """The whole file: a title, what to know first, and parts with links to them.

    title, summary: plain text.
    """
    links = "".join(f'<li><a href="#part-{i}">{escape(one.title)}</a></li>' for i, one in enumerate(parts))
    sections = "\n".join(
        f'<section aria-labelledby="part-{i}"><h2 id="part-{i}">{escape(one.title)}</h2>\n'
        + "\n".join(one.body)
        + "</section>"
        for i, one in enumerate(parts)
    )
    told = "\n".join(paragraph(one) for one in summary)
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{escape(title)}</title><style>{_style()}</style></head>
<body><header><h1>{escape(title)}</h1>
{told}
<nav aria-label="Parts"><ul>{links}</ul></nav></header>
<main>
{sections}
</main></body></html>
"""


def paragraph(text: str, *, soft: bool = False) -> str:
    """A paragraph of plain text; `soft` for what may be passed over."""
    return f"<p{' class=soft' if soft else ''}>{escape(text)}</p>"


def data_table(heading: Sequence[str], rows: Sequence[Sequence[str]], *, closed: str = "") -> str:
    """A table of plain text, whose first column names the rows.

    closed: where it is long, the words that open it.
    """
    head = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in heading)
    body = "\n".join(
        f'<tr><th scope="row">{escape(row[0])}</th>'
        + "".join(f"<td>{escape(cell)}</td>" for cell in row[1:])
        + "</tr>"
        for row in rows
    )
    label = escape(closed or heading[0] or "table", quote=True)
    table = (
        f'<div class="wide" tabindex="0" role="region" aria-label="{label}"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )
    return f"<details><summary>{escape(closed)}</summary>{table}</details>" if closed else table


@cache
def _style() -> str:
    return files(__package__).joinpath("report.css").read_text(encoding="utf8")
