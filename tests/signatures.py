"""The doors, and the types that signatures of their names mention, as the sources write them; read `without_door`."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

DOORS = (
    "mergecore",
    "mergecore.methods",
    "mergecore.types",
    "mergecore.errors",
    "mergecore.testing",
    "mergecore.compute",
    "mergecore.models",
    "mergecore.tokenizers",
    "mergecore.config",
    "mergecore.files",
    "mergecore.cli",
    "mergecore_architectures",
    "mergecore_plugins.activations",
    "mergecore_plugins.averaging",
    "mergecore_plugins.reports",
    "mergecore_contrib.method_files",
)
"""What may be imported from elsewhere."""

Definition = ast.ClassDef | ast.FunctionDef | ast.Assign | ast.AnnAssign
Home = tuple[str, str]
"""The module that defines a name, and its name there."""


def without_door(doors: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """Public names, and what their signatures mention that no door has."""
    public = {
        home: f"{door}.{name}"
        for door in doors
        for name in import_module(door).__all__
        if (home := home_of(door, name))
    }
    for (module, name), shown in public.items():
        for annotation in types_in(read(module)[1][name]):
            for mentioned in names_in(annotation):
                home = home_of(module, mentioned)
                if home and home not in public and not is_internal(home):
                    yield shown, ".".join(home)


def is_internal(home: Home) -> bool:
    """Whether it is a type variable, or a private alias, which stands for what it is made of."""
    node = read(home[0])[1][home[1]]
    if isinstance(node, ast.Assign) and ast.unparse(node.value).startswith("TypeVar("):
        return True
    return home[1].startswith("_") and not isinstance(node, ast.ClassDef)


def home_of(module: str, name: str) -> Home | None:
    """Where a name that a module uses is defined; None for one that is not ours."""
    if not module.startswith("mergecore"):
        return None
    imported, defined = read(module)
    if name in defined:
        return module, name
    return home_of(*imported[name]) if name in imported else None


@cache
def read(module: str) -> tuple[dict[str, Home], dict[str, Definition]]:
    """What a module imports from where, for type checkers or not, and what it defines itself."""
    spec = find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    tree = ast.parse(Path(spec.origin).read_text(encoding="utf8"))
    imported = {
        alias.asname or alias.name: (node.module, alias.name)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module
        for alias in node.names
    }
    return imported, dict(definitions(tree.body))


def definitions(body: list[ast.stmt]) -> Iterator[tuple[str, Definition]]:
    for node in body:
        match node:
            case ast.ClassDef(name=name) | ast.FunctionDef(name=name):
                yield name, node
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
                yield name, node
            case ast.If():
                yield from definitions(node.orelse)
                yield from definitions(node.body)


def types_in(node: Definition) -> Iterator[ast.expr]:
    """Everything of a definition that says a type: of a class, what its public part says."""
    match node:
        case ast.FunctionDef(args=args, returns=returns):
            every = [*args.posonlyargs, *args.args, args.vararg, *args.kwonlyargs, args.kwarg]
            yield from (one.annotation for one in every if one and one.annotation)
            yield from [returns] if returns else []
        case ast.ClassDef(bases=bases, body=body):
            yield from bases
            for inner in body:
                match inner:
                    case ast.FunctionDef(name=name) if not name.startswith("_") or name.startswith("__"):
                        yield from types_in(inner)
                    case ast.AnnAssign(target=ast.Name(id=name)) if not name.startswith("_"):
                        yield inner.annotation
        case ast.AnnAssign(annotation=annotation, value=value):
            yield value if value and ast.unparse(annotation) == "TypeAlias" else annotation
        case ast.Assign(value=ast.Subscript() as value):
            yield value


def names_in(annotation: ast.expr) -> Iterator[str]:
    for node in ast.walk(annotation):
        match node:
            case ast.Name(id=name):
                yield name
            case ast.Constant(value=str(text)) if text.isprintable() and text.strip():
                try:
                    yield from names_in(ast.parse(text, mode="eval").body)
                except SyntaxError:
                    continue
