"""Every public name with its signature, as a list that a test compares: a change of it has to be meant.

`python tests/public_api.py` writes the list anew. What goes away from it, or changes so that a call or a plugin that
worked fails, needs what docs/reference/versions.md says of deprecation.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

from signatures import DOORS, home_of, read

import mergecore
from mergecore.pipeline.signatures import signature_of
from mergecore.plugins import hookspecs

LIST = Path(__file__).resolve().parent / "packaging" / "public-api.txt"


def public_api() -> list[str]:
    """A line for each name, and one for each public field and function of a class below it."""
    lines = [f"hook {name}{_plain(inspect.signature(hook))}" for name, hook in vars(hookspecs).items()
             if name.startswith("mergecore_")]  # fmt: skip
    for door in DOORS:
        if door == "mergecore.methods":
            lines += _methods()
            continue
        for name in sorted(import_module(door).__all__):
            lines += _lines(door, name)
    return lines


def _plain(signature: inspect.Signature) -> str:
    return str(signature).replace("'", "")


def _methods() -> Iterator[str]:
    registry = mergecore.Registry.discover((), {})
    for method in registry.all(mergecore.MergeMethod):
        if registry.provider(mergecore.MergeMethod, method.name).built_in:
            yield f"mergecore.methods.{method.name}{signature_of(method)}"


def _lines(door: str, name: str) -> Iterator[str]:
    home = home_of(door, name)
    node = read(home[0])[1].get(home[1]) if home else None
    shown = f"{door}.{name}"
    match node:
        case ast.FunctionDef():
            yield f"{shown}{_signature(node)}"
        case ast.ClassDef(bases=bases, body=body):
            yield f"class {shown}({', '.join(map(ast.unparse, bases))})"
            for inner in body:
                yield from (f"    {line}" for line in _member(inner))
        case ast.AnnAssign(value=ast.expr() as value) if "TypeAlias" in ast.unparse(node.annotation):
            yield f"{shown} = {ast.unparse(value)}"
        case _:
            yield shown


def _member(node: ast.stmt) -> Iterator[str]:
    match node:
        case ast.AnnAssign(target=ast.Name(id=name)) if not name.startswith("_"):
            yield ast.unparse(node)
        case ast.FunctionDef(name=name) if name in ("__init__", "__call__") or not name.startswith("_"):
            marks = [f"@{ast.unparse(one)} " for one in node.decorator_list]
            yield f"{''.join(marks)}{name}{_signature(node)}"


def _signature(node: ast.FunctionDef) -> str:
    result = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    return f"({ast.unparse(node.args)}){result}"


if __name__ == "__main__":
    LIST.write_text("\n".join(public_api()) + "\n", encoding="utf8")
