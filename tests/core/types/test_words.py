"""Every field of the public values has a word in the documentation: behind the field, or in that of its class."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re

import pytest

import mergecore.types

VALUES = [
    one
    for one in (getattr(mergecore.types, name) for name in mergecore.types.__all__)
    if dataclasses.is_dataclass(one) and isinstance(one, type)
]


def undocumented(kind: type) -> list[str]:
    """The fields that neither a text behind them nor an entry of the docstring explains."""
    (body,) = ast.parse(inspect.getsource(kind)).body
    assert isinstance(body, ast.ClassDef)
    behind = {
        one.target.id
        for one, after in zip(body.body, body.body[1:], strict=False)
        if isinstance(one, ast.AnnAssign)
        and isinstance(one.target, ast.Name)
        and isinstance(after, ast.Expr)
        and isinstance(after.value, ast.Constant)
    }
    text = inspect.getdoc(kind) or ""
    own = [field.name for field in dataclasses.fields(kind) if field.name in inspect.get_annotations(kind)]
    return [
        name
        for name in own
        if name not in behind and not re.search(rf"`([\w.]+\.)?{name}`|(^|\.  ?){name}:", text, re.MULTILINE)
    ]


@pytest.mark.parametrize("kind", VALUES, ids=lambda one: str(one.__name__))
def test_every_field_of_a_value_is_explained(kind: type) -> None:
    assert undocumented(kind) == []


def test_there_are_values_to_look_at() -> None:
    assert len(VALUES) > 50


@dataclasses.dataclass
class Half:
    """A value of which `one` is explained, and three by name only: two names.

    four: this as well.
    """

    one: int
    two: int
    three: int
    """This too."""
    four: int


def test_a_field_without_a_word_is_found() -> None:
    assert undocumented(Half) == ["two"]
