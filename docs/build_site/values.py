"""What the hooks yield: the classes with their fields, from the code."""

from __future__ import annotations

import dataclasses
import inspect
import re
from typing import Any

from build_site.tables import code, prose, table
from mergecore import types
from mergecore.plugins import hookspecs

FIELD = re.compile(r"^(\w+(?:, \w+)*): ", re.MULTILINE)
YIELDS = re.compile(r"\[(\w+)")


def page() -> str:
    """A section for each hook and the class of its values."""
    intro = (
        "This page is made from the code, and so it is complete. [Hooks](hooks.md) explains them by examples."
    )
    parts = ["# Values of the hooks", intro]
    for hook in re.findall(r"^def (mergecore_\w+)", inspect.getsource(hookspecs), re.MULTILINE):
        function = getattr(hookspecs, hook)
        signature = str(inspect.signature(function)).replace("'", "")
        parts += [f"## {hook}", f"```python\ndef {hook}{signature}\n```"]
        parts.append(prose((inspect.getdoc(function) or "").partition("\n\n")[0]))
        name = YIELDS.search(signature)
        if name and dataclasses.is_dataclass(value := getattr(types, name[1], None)):
            parts += fields(value)
    return "\n\n".join(parts) + "\n"


def fields(value: Any) -> list[str]:
    """The text of a class, and a table of its fields."""
    before, *said = FIELD.split(inspect.getdoc(value) or "")
    helps: dict[str, str] = {}
    for names, text in zip(said[::2], said[1::2], strict=True):
        helps |= dict.fromkeys(names.split(", "), text)
    rows = [
        [f"`{one.name}`", code(str(one.type)), default(one), prose(helps.get(one.name, ""))]
        for one in dataclasses.fields(value)
        if not one.name.startswith("_")
    ]
    text = [prose(paragraph) for paragraph in before.split("\n\n")]
    return [f"### {value.__name__}", *text, table(["field", "type", "default", "meaning"], rows)]


def default(field: dataclasses.Field[Any]) -> str:
    if field.default is not dataclasses.MISSING:
        return code(repr(field.default)) if not callable(field.default) else "a function"
    if field.default_factory is not dataclasses.MISSING:
        return code(repr(field.default_factory()))
    return "required"
