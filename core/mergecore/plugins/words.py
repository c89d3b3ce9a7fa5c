"""What is said of plugins and of merge methods, in lists and in the help of their functions."""

from __future__ import annotations

import inspect
from functools import partial
from types import ModuleType
from typing import Any

from mergecore.types import MergeMethod


def summary_of(method: MergeMethod[Any]) -> str:
    """What a method does, in one line: what it says itself, else its function, else the module of that."""
    return method.summary or first_line(method.merge) or first_line(module_of(method.merge))


def first_line(documented: object) -> str:
    """The first sentences of a docstring, up to an empty line, in one line; empty where there is none."""
    while isinstance(documented, partial):
        documented = documented.func
    return " ".join((inspect.getdoc(documented) or "").split("\n\n")[0].split())


def module_of(function: object) -> ModuleType | None:
    """The module of a function."""
    while isinstance(function, partial):
        function = function.func
    return inspect.getmodule(function)


def needs(method: MergeMethod[Any]) -> str:
    """Which models the method merges, in words."""
    least, most = method.models
    number = f"{least}" if least == most else f"{least} to {most}" if most else f"{least} or more"
    base = {"required": "base_model and ", "optional": "perhaps base_model and ", "unused": ""}[method.base]
    return f"{base}{number} model{'' if number == '1' else 's'}"
