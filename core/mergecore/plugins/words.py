"""What is said of merge methods, in lists and in the help of their functions."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from mergecore.types import MergeMethod


def summary_of(method: MergeMethod[Any]) -> str:
    """What a method does, in one line: what it says itself, else the first line of its module or function."""
    return method.summary or first_line(method.merge)


def first_line(function: Callable[..., object]) -> str:
    """The first line of a function's module, without the name before a colon, or else of the function."""
    module = inspect.getmodule(function)
    text = inspect.getdoc(module) or inspect.getdoc(function) or ""
    line = text.split("\n\n")[0].replace("\n", " ")
    return line.partition(": ")[2] or line


def needs(method: MergeMethod[Any]) -> str:
    """Which models the method merges, in words."""
    least, most = method.models
    number = f"{least}" if least == most else f"{least} to {most}" if most else f"{least} or more"
    base = {"required": "base_model and ", "optional": "perhaps base_model and ", "unused": ""}[method.base]
    return f"{base}{number} model{'' if number == '1' else 's'}"
