"""A page for each merge method: its formula, a picture, parameters and an example, all from the code."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from typing import Any

from build_site.formulas import clause, typeset
from build_site.pictures import picture
from build_site.tables import cell, code, table
from mergecore import Registry
from mergecore.config.parameters.declared import describe_params
from mergecore.plugins.words import summary_of
from mergecore.types import MergeMethod

PAPER = re.compile(r"arXiv:(\d+\.\d+)")
PAPER_LINK = r"[arXiv:\1](https://arxiv.org/abs/\1)"


def pages(registry: Registry) -> Iterator[tuple[str, str]]:
    """The place of each page, and its text."""
    for method in sorted(registry.all(MergeMethod), key=lambda one: one.name):
        yield f"reference/methods/{method.name}.md", page(method)


def page(method: MergeMethod[Any]) -> str:
    summary = summary_of(method)
    parts = [f"# {method.name}", f"{summary[:1].upper()}{summary[1:]}.", "## Formula"]
    parts += [f"```{{raw}} html\n{typeset(method.formula)}\n```"]
    parts.append(f"```{{raw}} html\n<p>{clause('B is the base, X_i is model i.')}</p>\n```")
    if method.paper:
        parts.append(f"Source: {PAPER.sub(PAPER_LINK, method.paper)}")
    if shown := picture(method):
        parts += ["## What it does to a small tensor", shown]
    parts += ["## Parameters", parameters(method), "## Example", f"```yaml\n{example(method)}\n```"]
    return "\n\n".join(parts) + "\n"


def example(method: MergeMethod[Any]) -> str:
    return textwrap.dedent(method.example).strip()


def parameters(method: MergeMethod[Any]) -> str:
    rows = []
    for row in describe_params(method.params):
        value = row.type + (f" in {row.range}" if row.range else "")
        default = row.default if row.default == "required" else code(row.default)
        rows.append([code(row.name), cell(row.help), cell(value), row.scope, default])
    return table(["name", "meaning", "value", "for", "default"], rows) if rows else "It has none."


def with_links(text: str, registry: Registry) -> str:
    """The page of all methods, with a link at each name in its first table."""
    names = {method.name for method in registry.all(MergeMethod)}
    lines = []
    for line in text.splitlines():
        if line.startswith("| `"):
            first, bar, rest = line[2:].partition(" |")
            linked = re.sub(
                r"`(\w+)`", lambda m: f"[`{m[1]}`](methods/{m[1]}.md)" if m[1] in names else m[0], first
            )
            line = f"| {linked}{bar}{rest}" if "shared" not in line[:12] else line
        lines.append(line)
    return "\n".join(lines) + "\n"
