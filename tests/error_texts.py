"""The texts of errors as the sources write them, and whether tests match them; read `messages`, then `untested`."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, product
from pathlib import Path

from house import sources

CLASSES = {"ConfigError", "InputError", "PolicyError", "MergeError", "OutputError", "PluginError"}
PASSED_ON = {"what", "fault", "why", "how", "doing", "hint"}
"""Parameters by which functions get a part of a message."""

Function = ast.FunctionDef | None
Pieces = tuple[str, ...]
"""The constant parts of a message, in order."""


@dataclass
class Module:
    """A source file, the function that every node stands in, and functions and calls by name."""

    name: str
    tree: ast.Module
    owners: dict[ast.AST, Function] = field(default_factory=dict)
    functions: dict[str, list[ast.FunctionDef]] = field(default_factory=dict)
    calls: dict[str, list[ast.Call]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        todo: list[tuple[ast.AST, Function]] = [(self.tree, None)]
        while todo:
            node, owner = todo.pop()
            self.owners[node] = owner
            if isinstance(node, ast.FunctionDef):
                self.functions.setdefault(node.name, []).append(node)
            if isinstance(node, ast.Call):
                self.calls.setdefault(_name(node), []).append(node)
            inside = node if isinstance(node, ast.FunctionDef) else owner
            todo += [(child, inside) for child in ast.iter_child_nodes(node)]


@dataclass(frozen=True)
class Message:
    """One form of a message, and where it is written."""

    place: str
    pieces: Pieces


def messages(project: Path) -> list[Message]:
    """Every form of every message, and of every hint, that is given to an error or to what makes one."""
    modules = [
        Module(path.relative_to(project).as_posix(), ast.parse(path.read_text(encoding="utf8")))
        for _, path in sources(project)
    ]
    found, passed = _of_errors(modules)
    known: set[tuple[str, str]] = set()
    while new := passed - known:
        known |= new
        for function, parameter in new:
            more, further = _of_callers(modules, function, parameter)
            found |= more
            passed |= further
    return sorted(found, key=lambda one: (one.place, one.pieces))


def _of_errors(modules: Sequence[Module]) -> tuple[set[Message], set[tuple[str, str]]]:
    found: set[Message] = set()
    passed: set[tuple[str, str]] = set()
    for module in modules:
        for call in chain.from_iterable(module.calls.values()):
            of_class = isinstance(call.func, ast.Call) and _name(call.func) == "class_of"
            if (_name(call) in CLASSES or of_class) and len(call.args) > 1:
                hints = [word.value for word in call.keywords if word.arg == "hint"]
                for text in (call.args[1], *hints):
                    _note(module, call, text, found, passed)
    return found, passed


def _of_callers(
    modules: Sequence[Module], function: str, parameter: str
) -> tuple[set[Message], set[tuple[str, str]]]:
    """What is written where a function of that name is called, for a parameter that it makes a message of."""
    found: set[Message] = set()
    passed: set[tuple[str, str]] = set()
    for home in modules:
        for node in home.functions.get(function, ()):
            if parameter in _parameters(node):
                names = [name for name in _parameters(node) if name not in ("self", "cls")]
                for module in [home] if function.startswith("_") else modules:
                    for call in module.calls.get(function, ()):
                        if text := _argument(call, parameter, names.index(parameter)):
                            _note(module, call, text, found, passed)
    return found, passed


def _note(
    module: Module, call: ast.Call, text: ast.expr, found: set[Message], passed: set[tuple[str, str]]
) -> None:
    owner = module.owners[call]
    for form in _forms(module, text, owner):
        found.add(Message(f"{module.name}:{call.lineno}", tuple(one for one in form if isinstance(one, str))))
        passed |= {(owner.name, one.name) for one in form if isinstance(one, _Passed) and owner}


@dataclass(frozen=True)
class _Passed:
    name: str


_Form = tuple["str | _Passed | None", ...]
"""Constant parts, parameters, and None for what can be anything."""
ANYTHING: list[_Form] = [(None,)]


def _forms(module: Module, text: ast.expr | None, owner: Function, depth: int = 0) -> list[_Form]:
    """What an expression can be, as far as it can be told."""
    match text:
        case _ if depth > 6:
            return ANYTHING
        case ast.Constant(value=str(value)):
            return [(value,)]
        case ast.JoinedStr(values=values):
            return _joined([_forms(module, _inside(one), owner, depth + 1) for one in values])
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return _joined([_forms(module, one, owner, depth + 1) for one in (left, right)])
        case ast.IfExp(body=body, orelse=orelse):
            return [form for one in (body, orelse) for form in _forms(module, one, owner, depth + 1)]
        case ast.BoolOp(values=values):
            return [form for one in values for form in _forms(module, one, owner, depth + 1)]
        case ast.Name(id=name) if owner and name in _parameters(owner):
            return [(_Passed(name),)] if name in PASSED_ON else ANYTHING
        case ast.Name(id=name):
            values = _assigned(owner, name) or _assigned(module.tree, name)
            return [form for one in values for form in _forms(module, one, owner, depth + 1)] or ANYTHING
    return ANYTHING


def _inside(part: ast.expr) -> ast.expr | None:
    """What stands in the braces of an f-string, where it can be told; a constant part as it is."""
    inside = part.value if isinstance(part, ast.FormattedValue) else part
    return inside if isinstance(inside, ast.Constant | ast.IfExp | ast.Name) else None


def _joined(parts: Sequence[list[_Form]]) -> list[_Form]:
    forms: list[_Form] = [()]
    for part in parts:
        fitting = part if len(forms) * len(part) <= 16 else ANYTHING
        forms = [(*one, *other) for one, other in product(forms, fitting)]
    return forms


def _assigned(scope: ast.AST | None, name: str) -> list[ast.expr]:
    """What a name is set to in a function, or at the top of a module."""
    found: list[ast.expr] = []
    nodes = scope.body if isinstance(scope, ast.Module) else ast.walk(scope) if scope else ()
    for node in nodes:
        match node:
            case ast.Assign(targets=[ast.Name(id=target)], value=value) if target == name:
                found.append(value)
            case ast.Assign(targets=[ast.Tuple(elts=targets)], value=ast.Tuple(elts=values)):
                pairs = zip(targets, values, strict=False)
                found += [value for one, value in pairs if isinstance(one, ast.Name) and one.id == name]
            case ast.NamedExpr(target=ast.Name(id=target), value=value) if target == name:
                found.append(value)
            case ast.AugAssign(target=ast.Name(id=target), value=value) if target == name:
                found.append(value)
    return found


def _name(call: ast.Call) -> str:
    return str(getattr(call.func, "id", getattr(call.func, "attr", "")))


def _parameters(function: ast.FunctionDef) -> list[str]:
    known = function.args
    return [one.arg for one in (*known.posonlyargs, *known.args, *known.kwonlyargs)]


def _argument(call: ast.Call, name: str, position: int) -> ast.expr | None:
    named = next((word.value for word in call.keywords if word.arg == name), None)
    return named or (call.args[position] if position < len(call.args) else None)


# ---- what tests match --------------------------------------------------------------------------------------


def untested(found: Sequence[Message], *tests: Path) -> dict[str, str]:
    """The messages that no test matches: no three words of theirs, which no other message has, stand in one."""
    said = "\n".join(map(_said, tests))
    counts = Counter(words for one in found for words in _words(one))
    lacking: dict[str, str] = {}
    for one in found:
        words = _words(one)
        telling = {word for word in words if counts[word] == 1} or words
        if telling and not any(word in said for word in telling):
            lacking[one.place] = " … ".join(one.pieces)
    return lacking


def _words(message: Message) -> set[str]:
    """Every three words in a row; of a shorter piece all."""
    found: set[str] = set()
    for piece in message.pieces:
        words = _bare(piece)
        rows = [words[i : i + 3] for i in range(len(words) - 2)] or [words]
        found |= {" ".join(row) for row in rows}
    return {words for words in found if len(words) > 5}


def _said(tests: Path) -> str:
    """The texts in the tests, patterns also without their escapes; docstrings are no tests."""
    found: list[str] = []
    for path in sorted(tests.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf8"))):
            alone = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
            if not alone:
                found += _constants(node)
    found += [re.sub(r"\\(.)", r"\1", one) for one in found]
    return "\n".join(" ".join(_bare(one)) for one in found)


def _bare(text: str) -> list[str]:
    """The words of a text without what separates them."""
    return [bare for word in text.split() if (bare := word.strip(".,:;?!()'\""))]


def _constants(node: ast.AST) -> Iterator[str]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Constant) and isinstance(child.value, str):
            yield child.value
