"""A report as HTML; read `page`.  Whatever comes from models, such as the name of a tensor, is escaped here."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
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
    scripts = [resource("report.js"), *_drawing(sections)]
    policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src {' '.join(map(_digest, scripts))}"
    style = resource("report.css") + (resource("vendor/uPlot.min.css") if len(scripts) > 1 else "")
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="generator" content="mergecore">
<title>{escape(title)}</title><style>{style}</style></head>
<body><header><h1>{escape(title)}</h1>
{told}
<nav aria-label="Parts"><ul>{links}</ul></nav></header>
<main>
{sections}
</main>
{"".join(f"<script>{one}</script>" for one in scripts)}</body></html>
"""


def _drawing(sections: str) -> list[str]:
    """The scripts that charts of lines need, where there are any."""
    needed = CHART in sections
    library = f"/*\n{resource('vendor/LICENSE.md')}*/\n{resource('vendor/uPlot.iife.min.js')}"
    return [library, resource("charts.js")] if needed else []


CHART = 'class="chart"'
"""What an element has that scripts draw lines in."""


def _digest(script: str) -> str:
    """By which the page allows a script, and no other."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


@cache
def resource(name: str) -> str:
    """The text of a file beside this one."""
    return files(__package__).joinpath(name).read_text(encoding="utf8")


def paragraph(text: str, *, soft: bool = False) -> str:
    """A paragraph of plain text; `soft` for what may be passed over."""
    return f"<p{' class=soft' if soft else ''}>{escape(text)}</p>"


def command(text: str) -> str:
    """A command line to copy."""
    label = 'tabindex="0" role="region" aria-label="Command"'
    return f'<pre class="wide" {label}><code>{escape(text)}</code></pre>'


def fact_list(facts: Mapping[str, str]) -> str:
    """Names and what they are, such as `memory` and `2 GB`; what is empty is left out."""
    rows = "".join(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in facts.items() if text)
    return f"<dl>{rows}</dl>"


def bullets(texts: Iterable[str]) -> str:
    """A list of sentences."""
    return f"<ul class=told>{''.join(f'<li>{escape(text)}</li>' for text in texts)}</ul>"


def data_table(heading: Sequence[str], rows: Sequence[Sequence[str]], *, closed: str = "") -> str:
    """A table of plain text, whose first column names the rows; with scripts, a click on a heading sorts it.

    closed: where it is long, the words that open it.
    """
    words = [any(cell and not _NUMBER.match(cell) for cell in each) for each in zip(*rows, strict=True)]
    kinds = [" class=w" if word else "" for word in words] or [""] * len(heading)
    head = "".join(
        f'<th scope="col"{kind}>{escape(cell)}</th>' for cell, kind in zip(heading, kinds, strict=True)
    )
    body = "\n".join(
        f'<tr><th scope="row">{escape(row[0])}</th>'
        + "".join(f"<td{kind}>{escape(cell)}</td>" for cell, kind in zip(row[1:], kinds[1:], strict=True))
        + "</tr>"
        for row in rows
    )
    label = escape(closed or ", ".join(filter(None, heading[:4])), quote=True)
    table = (
        f'<div class="wide" tabindex="0" role="region" aria-label="{label}"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )
    return f"<details><summary>{escape(closed)}</summary>{table}</details>" if closed else table


_NUMBER = re.compile(r"-|[-+±<>≤≥]?\s?[0-9][0-9.,]*(e[-+]?[0-9]+)?(-[0-9e-]+|[ ×%/;…–].*|[A-Za-z]{1,2})?$")
"""What stands to the right in a table: a number, perhaps with its unit."""


def figures(each: Sequence[str]) -> str:
    """Pictures, side by side where there is room."""
    return f'<div class="figures">{"".join(each)}</div>' if each else ""


def figure(title: str, sentence: str, svg: str, table: str, *, live: str = "") -> str:
    """A picture with its sentence, which is read out in its place, and the numbers as a table.

    svg: an element whose attributes begin with `ROLE`, which this fills.
    live: what scripts draw in its place.
    """
    label = escape(f"{title}. {sentence}", quote=True)
    name = escape(f"{title}, picture", quote=True)
    drawn = svg.replace(ROLE, f'role="img" aria-label="{label}"', 1)
    picture = f'<div class="wide" tabindex="0" role="region" aria-label="{name}">{drawn}</div>'
    if live:
        picture = f'<div class="chart">{picture}{live}</div>'
    return f"<figure><h3>{escape(title)}</h3>{paragraph(sentence)}{picture}{table}</figure>"


ROLE = "role=picture"
"""Where `figure` says what a picture is."""
