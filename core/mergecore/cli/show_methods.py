"""What `mergecore methods` prints of a method, and of the parameters of any plugin."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from mergecore.config.parameters.declared import describe_params
from mergecore.errors import printable
from mergecore.plugins.registry import Plugin
from mergecore.plugins.words import needs, summary_of
from mergecore.types import Json, MergeMethod
from mergecore.types.params import Params

NAME_WIDTH, SUMMARY_WIDTH = 17, 59
OTHERS = "Others"


def methods_as_text(methods: Sequence[tuple[MergeMethod[Any], Plugin]]) -> str:
    """One line for each method, below what it is wanted for; those of other packages say whose they are."""
    families: dict[str, list[str]] = {}
    for method, plugin in methods:
        name = f"{method.name:<{NAME_WIDTH}}"
        mark = "" if plugin.built_in else f" ({plugin.origin})"
        room = max(NAME_WIDTH + SUMMARY_WIDTH - len(name) - len(mark), 12)
        line = f"  {name} {shortened(printable(summary_of(method)), room)}{mark}".rstrip()
        families.setdefault(printable(method.family) or OTHERS, []).append(line)
    ordered = sorted(families, key=lambda family: (family == OTHERS, family))
    return "\n\n".join("\n".join([family, *families[family]]) for family in ordered)


def shortened(text: str, width: int = SUMMARY_WIDTH) -> str:
    """The text, ended by an ellipsis after a word where it is longer than `width`."""
    return textwrap.shorten(text, width, placeholder=" ...")


_WORKS_ON = {
    "delta": "differences to the base",
    "weight": "the tensors themselves",
    "apart": "the tensors themselves, the base apart",
}


def method_as_text(method: MergeMethod[Any], plugin: Plugin) -> tuple[str, str]:
    """Formula, source, needs and parameters; and the example, whose lines are to be copied as they are."""
    works_on = _WORKS_ON[method.space]
    cost = f"{method.input_passes} pass{'es' if method.input_passes > 1 else ''} over the inputs"
    lines = [
        ": ".join(filter(None, (method.name, summary_of(method)))),
        "",
        *([f"  formula    {method.formula}"] if method.formula else []),
        *([f"  source     {method.paper}"] if method.paper else []),
        f"  needs      {needs(method)}; works on {works_on}",
        f"  cost       {cost}, {'whole tensors' if method.needs_whole_tensors else 'blocks'} in memory",
        f"  result     the same bytes {'on any machine' if method.reproducible == 'bitwise' else 'on one machine'}",
        f"  comes with {_origin(method, plugin)}",
        "",
        "  parameters",
        *parameters_as_text(method.params),
    ]
    example = textwrap.indent(textwrap.dedent(method.example).strip(), "    ")
    return "\n".join(lines), f"\n  example\n\n{example}" if example else ""


def _origin(method: MergeMethod[Any], plugin: Plugin) -> str:
    """The package that it comes with, or the file: a method of a file has a version of its own."""
    file = getattr(sys.modules.get(method.merge.__module__), "__file__", None)
    return printable(str(file)) if method.version and file else plugin.origin


def method_as_json(method: MergeMethod[Any]) -> dict[str, Json]:
    """The same facts as plain values."""
    parameters: list[Json] = [dict(asdict(row)) for row in describe_params(method.params)]
    return {
        "name": method.name,
        "summary": summary_of(method),
        "family": method.family,
        "formula": method.formula,
        "paper": method.paper,
        "space": method.space,
        "base": method.base,
        "models": list(method.models),
        "input_passes": method.input_passes,
        "needs_whole_tensors": method.needs_whole_tensors,
        "reproducible": method.reproducible,
        "parameters": parameters,
        "example": textwrap.dedent(method.example).strip(),
    }


def parameters_as_text(params: type[Params], scopes: bool = True) -> list[str]:
    """A line for each parameter, with its help below; `scopes`: whether some have a value for each model."""
    rows = describe_params(params)
    if not rows:
        return ["    none"]
    lines = []
    for row in rows:
        interval = f" in {row.range}" if row.range else ""
        default = row.default if row.default == "required" else f"default {row.default}"
        scope = f", {row.scope}" if scopes else ""
        lines.append(f"    {row.name:<12} {row.type}{interval}{scope}, {default}")
        if row.help:
            lines.append(f"    {'':<12} {row.help}")
    return lines
