"""Whether a value that a hook yields can be used at all, before anything is made of it; read `fault_of`."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import get_args

import click

from mergecore.errors import printable
from mergecore.types import ExpertNames, ExpertPart, MoeFamily
from mergecore.types.params import Params


def fault_of(value: object) -> str | None:
    """What is wrong with a value of a hook, such as `merge is None; a function is expected`; None when all is well."""
    if isinstance(value, click.Command):
        value.get_short_help_str()  # what it raises is the fault
        return None
    return _impossible_field(value) or (
        next(unplaced_parts(value), None) if isinstance(value, MoeFamily) else None
    )


def unplaced_parts(family: MoeFamily) -> Iterator[str]:
    """The parts of experts that have no place in a family of mixtures, or several: matrices would be lost."""
    for word, names in (("names", family.names), ("fused", family.fused)):
        if isinstance(names, ExpertNames):
            yield from _unplaced(f"{word}.experts", names.experts)
            if family.shared_experts != (0, 0):
                yield from _unplaced(f"{word}.shared", names.shared)


def _unplaced(word: str, names: Mapping[str, Sequence[ExpertPart]]) -> Iterator[str]:
    counts = Counter(part for one in names.values() for part in one)
    for part in get_args(ExpertPart):
        if counts[part] != 1:
            yield f"{word} names the part '{part}' {counts[part]} times; each of gate, up and down has one place"


def _impossible_field(value: object) -> str | None:
    for one in fields(value) if is_dataclass(value) else ():
        given, declared = getattr(value, one.name), str(one.type)
        optional = declared.endswith(" | None")
        if given is None and optional:
            continue
        for begins, expected, fits in _RULES:
            if declared.startswith(begins) and not fits(given, declared):
                return f"{one.name} is {_shown(given)}; {expected.format(choices=declared[8:-1])} is expected"
    return None


def _shown(value: object) -> str:
    text = printable(repr(value))
    return text if len(text) <= 40 else f"a {type(value).__name__}"


def _is_params(value: object, _: str) -> bool:
    return isinstance(value, type) and issubclass(value, Params)


def _is_choice(value: object, declared: str) -> bool:
    return isinstance(value, str) and value in ast.literal_eval(declared.removeprefix("Literal"))


def _is_range(value: object, _: str) -> bool:
    """Whether a value is the least and the largest number of something."""
    if not (isinstance(value, tuple) and len(value) == 2 and type(value[0]) is int):
        return False
    return value[1] is None or type(value[1]) is int


_RULES: tuple[tuple[str, str, Callable[[object, str], bool]], ...] = (
    ("str", "text", lambda value, _: isinstance(value, str)),
    ("int", "a whole number", lambda value, _: type(value) is int),
    ("bool", "True or False", lambda value, _: isinstance(value, bool)),
    ("type[P]", "a class of Params", _is_params),
    ("Callable[", "a function", lambda value, _: callable(value)),
    ("Mapping[", "a mapping", lambda value, _: isinstance(value, Mapping)),
    ("tuple[int, int | None]", "a pair such as (1, None)", _is_range),
    ("Literal[", "one of {choices}", _is_choice),
)
"""How the type of a field begins, what is expected, and whether a value is that."""
