"""Changes of a config's text that touch nothing else: `set_value`, `remove` and `insert_item`.

A change is made of splices, each a piece of text put in place of another.  The outcome is read again: if the values
are not those that were meant, or a comment is gone that was not within what was removed, the change is refused.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from mergecore.errors import MergecoreError
from mergecore.files import DocPath, parse_documents
from mergecore.types import Json
from mergecore_plugins.ui.edits import writing
from mergecore_plugins.ui.edits.editor import Editor
from mergecore_plugins.ui.edits.nodes import comments, nodes_of
from mergecore_plugins.ui.edits.place import Splice, refused


@dataclass(frozen=True)
class Edit:
    """A text that was changed, and by which splices, each in the text that the one before it leaves."""

    before: str
    after: str
    splices: tuple[Splice, ...] = ()

    @property
    def inverse(self) -> Edit:
        """What gives the same text back, to the character."""
        back: list[Splice] = []
        text = self.before
        for one in self.splices:
            back.append(Splice(one.start, one.start + len(one.text), text[one.start : one.end]))
            text = one.apply(text)
        return Edit(self.after, self.before, tuple(reversed(back)))

    def then(self, other: Edit) -> Edit:
        """Both as one: another change of what this one leaves."""
        assert other.before == self.after
        return Edit(self.before, other.after, (*self.splices, *other.splices))


def set_value(
    text: str,
    path: DocPath,
    value: Json,
    document: int = 0,
    after: Sequence[str] = (),
    *,
    open_up: bool = False,
) -> Edit:
    """The text with a value at a path; mappings on the way that are not there are made.

    document: its number among those that are not empty.  after: of a new key, the keys that it should follow.
    open_up: let a mapping of one line have several where the value has several.

    Raises:
        ConfigError: E120 for what cannot be changed without touching something else; what is wrong with the text.
    """
    data = _data(text)
    if not data and document == 0:
        data = [{}]
    wanted = copy.deepcopy(data)
    changed = _changed(_document(wanted, document), path, value)
    if not isinstance(changed, dict):
        raise refused("a config must be a mapping")
    wanted[document] = changed
    editor = Editor(text, document)
    if not (open_up and writing.is_long(value) and editor.open_up(path, value)):
        editor.set(path, value, after)
    return _checked(text, editor, wanted)


def remove(text: str, path: DocPath, document: int = 0, *, prune: bool = False) -> Edit:
    """The text without a key or an item, and without the comments in it.

    prune: also without the mappings around it that this leaves empty.

    Raises:
        ConfigError: E120 for what cannot be removed without touching something else; what is wrong with the text.
    """
    wanted = copy.deepcopy(_data(text))
    path = _pruned(_document(wanted, document), path) if prune else path
    _without(wanted[document], path)
    editor = Editor(text, document)
    editor.remove(path)
    return _checked(text, editor, wanted)


def append_item(text: str, path: DocPath, value: Json, document: int = 0) -> Edit:
    """The text with one more item at the end of the list at a path; the list is made if it is not there.

    Raises:
        ConfigError: E120 for what cannot be changed without touching something else; what is wrong with the text.
    """
    data = _data(text)
    items = _at(_document(data, document), path) if data else None
    if not isinstance(items, list) or not items:
        return set_value(text, path, [value], document, after=("merge_method", "base_model"))
    wanted = copy.deepcopy(data)
    _at(wanted[document], path).append(value)
    editor = Editor(text, document)
    editor.append(path, value)
    return _checked(text, editor, wanted)


def insert_item(text: str, path: DocPath, value: Json, document: int = 0) -> Edit:
    """The text with an item before the one at a path, or behind the last.

    Raises:
        ConfigError: E120 for what cannot be changed without touching something else; what is wrong with the text.
    """
    wanted = copy.deepcopy(_data(text))
    items, number = _at(_document(wanted, document), path[:-1]), path[-1] if path else None
    if not isinstance(items, list) or not isinstance(number, int) or not 0 <= number <= len(items):
        raise refused("there is no such place in a list")
    items.insert(number, value)
    editor = Editor(text, document)
    editor.insert(path, value)
    return _checked(text, editor, wanted)


# ---- what is meant -----------------------------------------------------------------------------------------


def _data(text: str) -> list[dict[str, Json]]:
    """The values of all documents; none of a text that has only comments."""
    try:
        nothing = not nodes_of(text)
    except yaml.YAMLError:
        nothing = False  # the parser of configs says what is wrong
    return [] if nothing else [dict(one.data) for one in parse_documents(text)]


def _document(data: Sequence[dict[str, Json]], number: int) -> dict[str, Json]:
    if number >= len(data):
        raise refused(f"there is no document {number + 1}")
    return data[number]


def _at(value: Any, path: DocPath) -> Any:
    for step in path:
        try:
            value = value[step]
        except (KeyError, IndexError, TypeError):
            return None
    return value


def _changed(old: Json, path: DocPath, value: Json) -> Json:
    """A value with another one at a path in it."""
    if not path:
        return value
    step, *rest = path
    if isinstance(step, int):
        if not isinstance(old, list) or not 0 <= step < len(old):
            raise refused(f"there is no item {step} to change")
        return [_changed(one, tuple(rest), value) if i == step else one for i, one in enumerate(old)]
    if old is not None and not isinstance(old, dict):
        raise refused(f"'{step}' would stand in what is not a mapping")
    whole = dict(old or {})
    return {**whole, step: _changed(whole.get(step), tuple(rest), value)}


def _pruned(data: Json, path: DocPath) -> DocPath:
    while len(path) > 1 and isinstance(path[-2], str) and len(_at(data, path[:-1]) or ()) == 1:
        path = path[:-1]
    return path


def _without(data: Json, path: DocPath) -> None:
    if not path or (around := _at(data, path[:-1])) is None or _at(data, path[:-1]) is not around:
        raise refused("there is nothing to remove")
    try:
        del around[path[-1]]
    except (KeyError, IndexError, TypeError):
        raise refused(f"there is no '{path[-1]}' to remove") from None


# ---- what has become of it ---------------------------------------------------------------------------------


def _checked(text: str, editor: Editor, wanted: list[dict[str, Json]]) -> Edit:
    """The change, if it does what is meant.

    Raises:
        ConfigError: E120 if it would do something else.
    """
    try:
        same = _exact(_data(editor.text)) == _exact(wanted)
    except MergecoreError:
        same = False
    if not same:
        raise refused("the result would not be what is meant")
    kept, left = comments(text), comments(editor.text)
    for one in editor.removed:
        kept.remove(one)
    if sorted(kept) != sorted(left):
        raise refused("a comment would be lost")
    return Edit(text, editor.text, tuple(editor.splices))


def _exact(value: Any) -> str:
    """Equal for equal values in whatever order of keys; 1, 1.0 and true differ."""
    return json.dumps(value, sort_keys=True)
