"""The splices of which a change is made, worked out from where everything stands; read `Editor.set`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from difflib import SequenceMatcher
from typing import Any

from mergecore.files import DocPath
from mergecore.types import Json
from mergecore_plugins.ui.edits import writing
from mergecore_plugins.ui.edits.nodes import (
    Node,
    before_break,
    comments,
    line_end,
    line_start,
    newline,
    next_line,
    nodes_of,
    skip,
)
from mergecore_plugins.ui.edits.place import NOTHING, Found, Text, index_of, refused


class Editor(Text):
    """A text that is changed splice by splice."""

    def __init__(self, text: str, document: int) -> None:
        super().__init__(text, document)
        self.removed: list[str] = []
        """The comments that stood in what was removed."""

    # ---- what may be asked for -----------------------------------------------------------------------------

    def set(self, path: DocPath, value: Json, after: Sequence[str] = ()) -> None:
        """Put a value at a path."""
        data = self.value(path)
        if data is not NOTHING and repr(data) == repr(value):
            return
        whole = self.owned(path)
        if whole != path:  # an alias or `<<` stands above it: what that stands for is written out here
            self.set(whole, _with(self.value(whole), path[len(whole) :], value))
        elif data is NOTHING:
            self._create(path, value, after)
        elif path and isinstance(path[-1], str) and index_of(self.find(path[:-1]).node, path[-1]) is None:
            self._add_key(
                self.find(path[:-1]).node, path[-1], value, after
            )  # it goes before what '<<' merges
        elif isinstance(data, dict) and isinstance(value, dict) and data and value:
            self._set_mapping(path, data, value)
        elif isinstance(data, list) and isinstance(value, list) and data and value and _alike(data, value):
            self._set_list(path, data, value)
        else:
            self._replace(path, value)

    def remove(self, path: DocPath) -> None:
        """Take a key or an item away."""
        if self.owned(path) != path:
            raise refused("an alias or '<<' brings it")
        found = self.find(path[:-1])
        node = found.node
        number = index_of(node, path[-1])
        if number is None:
            raise refused("'<<' brings it")
        self.guard(node.values[number])
        if len(node.values) == 1:
            if not path[:-1]:
                raise refused("nothing else would be left")
            self.removed += comments(self.text, node.start, node.end)
            self._replace(path[:-1], {} if node.kind == "mapping" else [])
        elif node.flow:
            self._remove_flow(node, number)
        else:
            self._remove_block(node, number)

    def append(self, path: DocPath, value: Json) -> None:
        """Add an item at the end of a list that has some."""
        whole = self.owned(path)
        if whole != path:
            old = self.value(path)
            assert isinstance(old, list)
            self.set(whole, _with(self.value(whole), path[len(whole) :], [*old, value]))
            return
        node = self.find(path).node
        self.guard_holder(path)
        if node.flow:
            self.splice(node.values[-1].end, node.values[-1].end, f", {writing.flow(value)}")
            return
        open_item = any(one.block for one in node.values) or all(one.kind == "scalar" for one in node.values)
        indent = " " * self.column(node.start)
        self._insert_lines(node.values[-1], writing.item(value, indent, open_item=open_item))

    def insert(self, path: DocPath, value: Json) -> None:
        """Put an item before the one at a path."""
        holder, number = path[:-1], path[-1]
        old = self.value(holder)
        if not isinstance(old, list) or not isinstance(number, int) or not 0 <= number <= len(old):
            raise refused("there is no such place in a list")
        if number == len(old) and old:
            self.append(holder, value)
        elif not old or self.owned(holder) != holder:
            self.set(holder, [*old[:number], value, *old[number:]])
        else:
            self._insert(holder, number, value)

    def _insert(self, path: DocPath, number: int, value: Json) -> None:
        node = self.find(path).node
        self.guard_holder(path)
        if node.flow:
            at = node.values[number].outer
            self.splice(at, at, f"{writing.flow(value)}, ")
            return
        dash = self._dash(node, number)
        indent = " " * self.column(dash)
        lines = writing.item(value, indent, open_item=node.values[number].block)
        ending = newline(self.text, dash)
        at = line_start(self.text, dash)
        if self.text[at:dash].strip():  # the first item stands behind another dash
            at, lines[0] = dash, lines[0].lstrip()
            lines.append(indent)
            self.splice(at, at, ending.join(lines))
            return
        self.splice(at, at, "".join(f"{one}{ending}" for one in lines))

    def open_up(self, path: DocPath, value: Json) -> bool:
        """Put a long value into a mapping of one line, which then has several; False where it has several already.

        Nothing is done where there are comments, anchors or aliases in that line.
        """
        for i in range(1, len(path)):
            if self.owned(path[:i]) != path[:i] or self.value(path[:i]) is NOTHING:
                return False
            found = self.find(path[:i])
            if found.node.kind == "mapping" and found.node.flow:
                break
        else:
            return False
        names = any(one.kind == "alias" or one.anchor for one in found.node.walk())
        if names or found.node.merges or comments(self.text, found.node.start, found.node.end):
            return False
        if found.parent is None or found.parent.flow:
            return False
        whole = _with(self.value(path[:i]), path[i:], value)
        self._replace_block(found, found.parent, whole, long=True)
        return True

    # ---- changing ------------------------------------------------------------------------------------------

    def _set_mapping(self, path: DocPath, old: dict[str, Json], new: dict[str, Json]) -> None:
        if self.find(path).node.kind == "alias" or self.find(path).node.merges:
            self._replace(path, new)
            return
        for key, value in new.items():
            self.set((*path, key), value)
        for key in old:
            if key not in new:
                self.remove((*path, key))

    def _set_list(self, path: DocPath, old: list[Json], new: list[Json]) -> None:
        node = self.find(path).node
        plain = not any(isinstance(one, dict | list) for one in (*old, *new))
        if len(old) == len(new) and node.kind == "sequence":
            for i, value in enumerate(new):
                self.set((*path, i), value)
        elif plain or node.kind == "alias" or (node.flow and not comments(self.text, node.start, node.end)):
            self._replace(path, new)
        else:
            self._set_items(path, old, new)

    def _set_items(self, path: DocPath, old: list[Json], new: list[Json]) -> None:
        """Items of the same filter, or of the same model, are taken for the same; from the last to the first."""
        pairs = SequenceMatcher(None, [_identity(one) for one in old], [_identity(one) for one in new], False)
        for kind, i, i_end, j, j_end in reversed(pairs.get_opcodes()):
            both = min(i_end - i, j_end - j) if kind != "insert" else 0
            for value in reversed(new[j + both : j_end]):
                self.insert((*path, i + both), value)
            for k in reversed(range(i + both, i_end)):
                self.remove((*path, k))
            for k in range(both):
                self.set((*path, i + k), new[j + k])

    def _create(self, path: DocPath, value: Json, after: Sequence[str]) -> None:
        """Write a key that is not there, and the mappings that it needs."""
        if self.root is None:
            self._begin(_nested(path, value))
            return
        length = next(i for i in range(1, len(path) + 1) if self.value(path[:i]) is NOTHING)
        key, rest = path[length - 1], path[length:]
        if not isinstance(key, str):
            raise refused(f"there is no item {key}")
        around = self.value(path[: length - 1])
        if around is None or around == {}:
            self._replace(path[: length - 1], _nested(path[length - 1 :], value))
        elif isinstance(around, dict):
            self.guard_holder(path[: length - 1])
            self._add_key(self.find(path[: length - 1]).node, key, _nested(rest, value), after)
        else:
            raise refused(f"'{key}' would stand in what is not a mapping")

    def _begin(self, value: Json) -> None:
        """The first key of a text that holds comments at most."""
        start = "" if not self.text or self.text.endswith(("\n", "\r")) else newline(self.text)
        lines = writing.block(value, "", open_items=True)
        self.splice(
            len(self.text), len(self.text), start + "".join(f"{one}{newline(self.text)}" for one in lines)
        )

    def _add_key(self, node: Node, key: str, value: Json, after: Sequence[str]) -> None:
        if node.flow:
            end = _end(node, len(node.values) - 1)
            self.splice(end, end, f", {writing.scalar(key)}: {writing.flow(value)}")
            return
        number = max([i for i, one in enumerate(node.keys) if one.name in after], default=len(node.keys) - 1)
        indent = " " * self.column(node.start)
        open_up = isinstance(value, dict) and self._opens(key)
        self._insert_lines(
            node.values[number], writing.pair(key, value, indent, open_items=key == "models" or open_up)
        )

    def _opens(self, key: str) -> bool:
        """Whether mappings under this key are written in several lines elsewhere."""
        found = [
            value
            for root in nodes_of(self.text)
            for one in root.walk()
            if one.kind == "mapping"
            for name, value in zip(one.keys, one.values, strict=True)
            if name.name == key and value.kind == "mapping"
        ]
        return bool(found) and not any(one.flow for one in found)

    def _insert_lines(self, last: Node, lines: Sequence[str]) -> None:
        """Put lines below the last line of a value."""
        ending = newline(self.text, last.end)
        if last.ends_with_break(self.text):
            self.splice(last.end, last.end, "".join(f"{one}{ending}" for one in lines))
            return
        at = line_end(self.text, max(last.end, last.start))
        self.splice(at, at, "".join(f"{ending}{one}" for one in lines))

    def _replace(self, path: DocPath, value: Json) -> None:
        """Write a value in place of another one."""
        found = self.find(path)
        self.guard(found.node)
        self.guard_holder(path)
        node, parent = found.node, found.parent
        in_flow = bool(parent and parent.flow)
        if parent is None:
            raise refused("it is the whole document")
        long = not in_flow and bool(value) and writing.is_long(value)
        if node.block or long:
            self._replace_block(found, parent, value, long)
            return
        style = node.style if isinstance(value, str) else ""
        text = writing.scalar(value, style) if not isinstance(value, dict | list) else writing.flow(value)
        inside = comments(self.text, node.start, node.end)
        if inside and node.kind != "scalar":
            raise refused("there are comments in it")
        if node.style in ("|", ">"):
            text += newline(self.text, node.start) if node.ends_with_break(self.text) else ""
        self.splice(node.start, node.end, self._spaced(node.start) + text + self._room(node))

    def _spaced(self, at: int) -> str:
        return " " if at and self.text[at - 1] in ":-?" else ""

    def _room(self, node: Node) -> str:
        """A space where nothing was written, and what follows would belong to the value."""
        following = self.text[node.end : node.end + 1]
        return " " if node.empty and following and following in "#{[&*!|>'\"" else ""

    def _replace_block(self, found: Found, parent: Node, value: Json, long: bool) -> None:
        """Write a value of several lines, or in place of one of several lines; comments come below it."""
        node, key = found.node, self._before(found, parent)
        indent = " " * self.column(parent.start)
        ending = newline(self.text, node.start)
        inside = comments(self.text, key, node.end)
        if node.style in ("|", ">"):
            raise refused("it is a text of several lines")
        if long:
            lines = writing.block(value, indent + "  ", open_items=_is_models(found, parent))
            text = "".join(f"{ending}{one}" for one in lines)
            if parent.kind == "sequence":
                text = " " + lines[0].lstrip() + "".join(f"{ending}{one}" for one in lines[1:])
        else:
            text = f" {writing.flow(value)}"
        last = node.ends_with_break(self.text)
        end = line_end(self.text, node.end) if inside and not last else node.end
        inside += comments(self.text, node.end, end)
        text += "".join(f"{ending}{indent}{one}" for one in inside) + (ending if last else "")
        self.splice(key, end, text)

    def _before(self, found: Found, parent: Node) -> int:
        """Where the colon, or the dash, of a value ends."""
        if parent.kind == "mapping":
            return skip(self.text, parent.keys[found.number].end) + 1
        return self._dash(parent, found.number) + 1

    def _dash(self, node: Node, number: int) -> int:
        """Where the dash of an item stands."""
        return skip(self.text, node.values[number - 1].end) if number else node.start

    # ---- removing ------------------------------------------------------------------------------------------

    def _remove_flow(self, node: Node, number: int) -> None:
        starts = [one.outer for one in (node.keys or node.values)]
        if number + 1 < len(starts):
            span = (starts[number], starts[number + 1])
        else:
            before = _end(node, number - 1)
            span = (before, node.values[number].end)
        self.removed += comments(self.text, *span)
        self.splice(*span, "")

    def _remove_block(self, node: Node, number: int) -> None:
        """Take the lines of an entry away, and the comment behind it."""
        start = node.keys[number].outer if node.keys else self._dash(node, number)
        last = node.values[number]
        end = last.end if last.ends_with_break(self.text) else next_line(self.text, last.end)
        begin = line_start(self.text, start)
        if self.text[begin:start].strip():
            begin = start
            end = node.keys[1].outer if node.keys else self._dash(node, 1)
            within = comments(self.text, line_end(self.text, last.end), end)
            if within:
                raise refused("a comment stands between it and the next one")
        elif end == len(self.text) and not self.text.endswith(("\n", "\r")) and begin:
            begin = before_break(self.text, begin)
        self.removed += comments(self.text, begin, end)
        self.splice(begin, end, "")


def _identity(item: Json) -> str:
    """What tells an item of a list from the others, whatever else is in it."""
    if not isinstance(item, dict):
        return json.dumps(item)
    return json.dumps([item.get(key) for key in ("filter", "model", "name", "sources")], sort_keys=True)


def _alike(old: list[Json], new: list[Json]) -> bool:
    """Whether both are lists of mappings, or neither is."""
    return writing.is_long(old) == writing.is_long(new)


def _end(node: Node, number: int) -> int:
    """Where an entry ends; that of a key without a value may end with the key."""
    value = node.values[number]
    return max(value.end, node.keys[number].end) if value.empty and node.keys else value.end


def _nested(path: DocPath, value: Json) -> Any:
    for step in reversed(path):
        if not isinstance(step, str):
            raise refused(f"there is no item {step}")
        value = {step: value}
    return value


def _with(whole: Any, path: DocPath, value: Json) -> Any:
    """A value with another one at a path in it."""
    if not path:
        return value
    if isinstance(whole, list):
        return [_with(one, path[1:], value) if i == path[0] else one for i, one in enumerate(whole)]
    inner = whole.get(path[0]) if isinstance(whole, dict) else None
    return {**(whole or {}), path[0]: _with(inner, path[1:], value)}


def _is_models(found: Found, parent: Node) -> bool:
    return parent.kind == "mapping" and parent.keys[found.number].name == "models"
