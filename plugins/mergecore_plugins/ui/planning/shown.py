"""A plan as the page shows it: what becomes of every tensor, in few lines; read `shown`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mergecore_plugins.ui.planning.planner import Planned
from mergecore_plugins.ui.runs.progress import duration, made_bytes
from mergecore_plugins.ui.runs.queue import Runs


@dataclass(frozen=True)
class Account:
    """What becomes of some tensors: how many, in words; `names` are they."""

    count: int
    words: str
    names: Sequence[str]


def shown(made: Planned, runs: Runs) -> dict[str, Any]:
    """What the template of the plan takes."""
    if made.plan is None:
        return {"plan": None, "accounts": [], "time": "", "warnings": []}
    warnings = [str(one) for one in made.plan["warnings"]]
    for one in made.plan.get("earlier", ()):
        warnings += [f"{one['name']}: {text}" for text in one["warnings"]]
    return {
        "plan": made.plan,
        "accounts": accounts(made.plan),
        "time": time_of(made.plan["bytes"], runs),
        "warnings": warnings,
    }


def accounts(plan: Mapping[str, Any]) -> list[Account]:
    """Every tensor of the result by how it is made, then those of the models that do not reach it, and why."""
    made: dict[str, list[str]] = {}
    for one in plan["tensors"]:
        names = [one["name"], *(other["name"] for other in one.get("further", ()))]
        made.setdefault(_how(one), []).extend(names)
    found = [Account(len(names), words, names) for words, names in made.items()]
    left = [
        Account(len(one["names"]), f"of {one['model']} left out: {one['reason']}", one["names"])
        for one in plan["dropped"]
    ]
    return [*sorted(found, key=lambda one: -one.count), *left]


def _how(tensor: Mapping[str, Any]) -> str:
    if tensor["method"]:
        return f"merged by {tensor['method']}"
    return f"copied: {tensor['note']}" if tensor["note"] else "copied"


def time_of(nbytes: int, runs: Runs) -> str:
    """How long a merge may take, by the last one that the page carried out; empty before the first."""
    for run in runs.all:
        size = made_bytes(run)
        if size and run.started and run.ended:
            return duration((run.ended - run.started) * max(nbytes / size, LEAST))
    return ""


LEAST = 0.25
"""The share of a run that a smaller one takes all the same, to start."""
