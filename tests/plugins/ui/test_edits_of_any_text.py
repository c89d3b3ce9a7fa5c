"""Edits of texts in every style: the values are those that were meant, and nothing else is touched."""

from __future__ import annotations

import copy
import json
import re
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from mergecore.errors import ConfigError
from mergecore.files import parse_documents
from mergecore_plugins.ui.edits import Edit, append_item, insert_item, remove, set_value

KEYS = st.sampled_from(
    ["a", "weight", "a b", "true", "1", "é", "x: y", "#no", "<<x", "-", "it's", '"q"', "*", ""]
)
SCALARS = st.one_of(
    st.sampled_from([0, 1, -3, 0.5, 1e-7, 1.0, True, False, None]),
    st.sampled_from(["", "yes", "1e-3", "a b", "role:attn", "glob:*.q", "null", "- x", "a: b", " x "]),
    st.sampled_from(["# no comment", "it's", 'say "hi"', "tab\there", "two\nlines", "é😀", "\u2028\x85"]),
    st.floats(allow_nan=False, allow_infinity=False),
    st.integers(-(10**12), 10**12),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(KEYS, inner, max_size=3)),
    max_leaves=6,
)
DOCUMENTS = st.dictionaries(KEYS, VALUES, min_size=1, max_size=4)


@dataclass
class Writer:
    """Writes values in a style that is drawn, with comments that are all different."""

    draw: Any
    newline: str = "\n"
    fancy: bool = True
    """Whether with anchors and aliases."""
    count: int = 0
    anchors: dict[str, str] = field(default_factory=dict)

    def flip(self) -> bool:
        return bool(self.draw(st.booleans()))

    def comment(self, tab: bool = True) -> str:
        """A comment behind something, or nothing."""
        if self.draw(st.integers(0, 3)):
            return ""
        self.count += 1
        space = self.draw(st.sampled_from([" ", "   ", "\t"] if tab else [" ", "   "]))
        return f"{space}# c{self.count}: {{[\t'\""

    def document(self, data: dict[str, Any]) -> str:
        self.anchors.clear()
        if self.draw(st.integers(0, 5)) == 0:
            return self.flow(data) + self.comment() + self.newline
        return self.newline.join(self.lines(data, self.draw(st.sampled_from(["", "", "  "])))) + self.newline

    def lines(self, value: Any, indent: str) -> list[str]:
        """A mapping or a list that is not empty, in block style."""
        found: list[str] = []
        for key, one in value.items() if isinstance(value, dict) else enumerate(value):
            if self.draw(st.integers(0, 4)) == 0:
                self.count += 1
                found += ["", f"{indent}# c{self.count}"]
            start = f"{indent}{self.scalar(key)}:" if isinstance(value, dict) else f"{indent}-"
            found += self.entry(start, one, indent, isinstance(value, dict))
        return found

    def entry(self, start: str, one: Any, indent: str, keyed: bool) -> list[str]:
        if self.fancy and (alias := self.anchors.get(exact(one))) and self.flip():
            return [f"{start} *{alias}{self.comment()}"]
        mark = self.anchor(one)
        if isinstance(one, dict | list) and one and self.flip():
            deeper = indent + self.draw(st.sampled_from(["  ", " ", "    "]))
            if isinstance(one, list) and keyed and self.flip():
                deeper = indent
            inner = self.lines(one, deeper)
            compact = not keyed and not mark and inner[0].strip() and not inner[0].lstrip().startswith("#")
            if compact and self.flip() and deeper == indent + "  ":
                found = [f"{start} {inner[0].lstrip()}", *inner[1:]]
            else:
                found = [f"{start}{mark}{self.comment(tab=False)}", *inner]
            self.known(mark, one)
            return found
        if (
            isinstance(one, str)
            and one
            and one.isprintable()
            and one == one.strip()
            and self.draw(st.integers(0, 5)) == 0
        ):
            style = self.draw(st.sampled_from(["|-", ">-"]))
            return [f"{start}{mark} {style}{self.comment()}", f"{indent}   {one}"]
        if one is None and self.flip():
            return [f"{start}{self.comment(tab=False)}"]
        text = f"{start}{mark} {self.flow(one)}{self.comment()}"
        self.known(mark, one)
        return [text]

    def anchor(self, one: Any) -> str:
        if not self.fancy or one is None or self.draw(st.integers(0, 4)):
            return ""
        self.count += 1
        return f" &n{self.count}"

    def known(self, mark: str, one: Any) -> None:
        if mark:
            self.anchors[exact(one)] = mark.strip(" &")

    def flow(self, value: Any) -> str:
        space = self.draw(st.sampled_from(["", " ", self.newline + "          "])) if self.flip() else ""
        if isinstance(value, dict):
            inner = ", ".join(f"{self.scalar(key)}: {self.flow(one)}" for key, one in value.items())
            return f"{{{space}{inner}{space}}}"
        if isinstance(value, list):
            comma = "," if value and self.flip() else ""
            return f"[{space}{', '.join(map(self.flow, value))}{comma}{space}]"
        return self.scalar(value)

    def scalar(self, value: Any) -> str:
        if isinstance(value, str):
            plain = re.fullmatch(r"[a-z][a-z]*( [a-z]+)*|role:attn", value) and value not in (
                "true",
                "false",
                "null",
            )
            if plain and self.flip():
                return value
            if value.isprintable() and self.flip():
                return "'" + value.replace("'", "''") + "'"
            return json.dumps(
                value, ensure_ascii="😀" not in value and (not value.isprintable() or self.flip())
            )
        return json.dumps(value)


def exact(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def marks(text: str) -> list[str]:
    """The comments: each has a number of its own."""
    return sorted(re.findall(r"# c\d+", text))


@st.composite
def texts(draw: Any, fancy: bool = True) -> tuple[str, list[dict[str, Any]]]:
    documents = draw(st.lists(DOCUMENTS, min_size=1, max_size=2))
    writer = Writer(draw, draw(st.sampled_from(["\n", "\n", "\r\n"])), fancy)
    text = f"---{writer.newline}".join(writer.document(one) for one in documents)
    if draw(st.booleans()) and not text.endswith(("|-\n", ">-\n")):
        text = text.rstrip("\r\n")
    return text, documents


def ways(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every path into a value, except the empty one."""
    found = [path] if path else []
    for key, one in (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    ):
        found += ways(one, (*path, key))
    return found


def at(value: Any, path: tuple[Any, ...]) -> Any:
    for step in path:
        value = value[step]
    return value


def edited(draw: Any, text: str, data: list[dict[str, Any]]) -> tuple[Edit, list[dict[str, Any]], bool]:
    """An edit that is drawn, and what the values are then; whether it removes something."""
    number = draw(st.integers(0, len(data) - 1))
    wanted = copy.deepcopy(data)
    path = draw(st.sampled_from(ways(wanted[number])))
    kind = draw(st.sampled_from(["set", "set", "key", "remove", "append", "insert"]))
    holders = [(), *(one for one in ways(wanted[number]) if isinstance(at(wanted[number], one), dict))]
    lists = [one for one in ways(wanted[number]) if isinstance(at(wanted[number], one), list)]
    value = draw(VALUES)
    if kind == "key":
        path = (*draw(st.sampled_from(holders)), draw(st.sampled_from(["new", "a new", "é", "null"])))
    if kind == "append" and lists:
        path = draw(st.sampled_from(lists))
        at(wanted[number], path).append(value)
        return append_item(text, path, value, number), wanted, False
    if kind == "insert" and lists:
        path = draw(st.sampled_from(lists))
        items = at(wanted[number], path)
        place = draw(st.integers(0, len(items)))
        items.insert(place, value)
        return insert_item(text, (*path, place), value, number), wanted, False
    if kind == "remove":
        del at(wanted[number], path[:-1])[path[-1]]
        return remove(text, path, number), wanted, True
    at(wanted[number], path[:-1])[path[-1]] = value
    return set_value(text, path, value, number), wanted, isinstance(value, dict | list)


@given(st.data(), texts())
@settings(max_examples=400, deadline=None)
def test_edits_do_what_is_meant_and_touch_nothing_else(
    data: Any, drawn: tuple[str, list[dict[str, Any]]]
) -> None:
    text, values = drawn
    assert [dict(one.data) for one in parse_documents(text)] == values, "the test writes what it means"
    for _ in range(3):
        try:
            edit, wanted, removes = edited(data.draw, text, values)
        except ConfigError as error:
            event(error.what)
            if error.code == "E120":
                continue
            raise
        found = [dict(one.data) for one in parse_documents(edit.after)]
        assert exact(found) == exact(wanted)
        before, after = marks(text), marks(edit.after)
        assert set(after) <= set(before) if removes else before == after
        back = edit.after
        for splice in edit.inverse.splices:
            back = splice.apply(back)
        assert back == text == edit.inverse.after
        text, values = edit.after, wanted


@given(st.data(), texts(fancy=False))
@settings(max_examples=300, deadline=None)
def test_a_number_can_be_set_in_any_text_without_anchors(
    data: Any, drawn: tuple[str, list[dict[str, Any]]]
) -> None:
    """And only its own characters change, so that the old number gives the old text."""
    text, values = drawn
    numbers = [
        (i, path)
        for i, one in enumerate(values)
        for path in ways(one)
        if isinstance(at(one, path), int | float) and not isinstance(at(one, path), bool)
    ]
    if not numbers:
        return
    number, path = data.draw(st.sampled_from(numbers))
    old = at(values[number], path)
    edit = set_value(text, path, 0.125, number)
    if exact(old) != exact(0.125):
        [splice] = edit.splices
        assert splice.text == "0.125"
        assert float(text[splice.start : splice.end]) == old
    assert set_value(edit.after, path, old, number).after == text


@given(st.data(), texts(fancy=False))
@settings(max_examples=300, deadline=None)
def test_a_new_key_that_is_removed_again_leaves_the_old_text(
    data: Any, drawn: tuple[str, list[dict[str, Any]]]
) -> None:
    text, values = drawn
    number = data.draw(st.integers(0, len(values) - 1))
    whole = values[number]
    holders = [path for path in ways(whole) if at(whole, path) and isinstance(at(whole, path), dict)]
    path = (*data.draw(st.sampled_from([(), *holders])), "new key")
    with_it = set_value(text, path, data.draw(VALUES), number).after
    assert remove(with_it, path, number).after == text


def test_a_text_that_is_no_yaml_is_refused_as_by_the_command_line() -> None:
    with pytest.raises(ConfigError, match="not valid YAML"):
        set_value("a: [1", ("a",), 2)
