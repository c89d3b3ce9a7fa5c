"""A process that plans texts: a line of JSON in, a line of JSON out; read `main`.

It is ended where newer text makes its answer useless, so it keeps nothing.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mergecore import MergecoreError, PlanOptions, Registry, plan
from mergecore.cli import plan_shown
from mergecore.files import parse_json
from mergecore.types import Json, Plan
from mergecore_plugins.ui.faults import faults_of
from mergecore_plugins.ui.panels_list import PANELS


def main() -> None:
    """Answer each line of standard input until it ends; plugins that print do not get in the way."""
    disabled: Any = parse_json(sys.argv[1], code="E104")
    registry = Registry.discover(disabled)
    answers = os.fdopen(os.dup(1), "w", encoding="utf8")
    os.dup2(2, 1)
    for line in sys.stdin:
        asked: Any = parse_json(line, code="E104")
        answers.write(json.dumps(answer(asked["text"], asked["name"], asked, registry)) + "\n")
        answers.flush()


def answer(text: str, name: str, asked: Mapping[str, Any], registry: Registry) -> dict[str, Json]:
    """The plan of a text and what panels say about it, or what is wrong with it.

    asked: `offline`, `threads` and `max_memory`.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "config.yml")
        file.write_text(text, encoding="utf8")
        try:
            made = plan(file, registry=registry, options=PlanOptions(asked["offline"]))
            given = {"as_json": True, "threads": asked["threads"], "max_memory": asked["max_memory"]}
            shown = parse_json(plan_shown(made, registry, given), code="E104", nan=True, infinite=True)
        except MergecoreError as error:
            found: list[Json] = [one.as_json() for one in faults_of([error], str(file))]
            return {"ok": False, "faults": _renamed(found, str(file), name), "plan": None, "facts": {}}
    return {"ok": True, "faults": [], "plan": shown, "facts": _facts(made, registry)}


def _facts(made: Plan, registry: Registry) -> dict[str, Json]:
    return {one.name: one.facts(made, registry) for one in PANELS if one.facts}


def _renamed(value: Json, file: str, name: str) -> Json:
    """The same with the name of the text where messages speak of the file that it was put into."""
    if isinstance(value, str):
        return value.replace(file, name)
    if isinstance(value, list):
        return [_renamed(one, file, name) for one in value]
    if isinstance(value, dict):
        return {key: _renamed(one, file, name) for key, one in value.items()}
    return value


if __name__ == "__main__":
    main()
