"""A text that is changed splice by splice, and what stands where in it; read `Text`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mergecore.errors import ConfigError
from mergecore.files import DocPath, parse_documents
from mergecore_plugins.ui.edits.nodes import Node, line_start, nodes_of


def refused(why: str) -> ConfigError:
    """The error of a change that would touch something else."""
    return ConfigError("E120", f"this cannot be changed here: {why}", hint="change the text by hand")


@dataclass(frozen=True)
class Splice:
    """`text` in place of what is written from `start` to `end`."""

    start: int
    end: int
    text: str

    def apply(self, text: str) -> str:
        """The text with this in it."""
        return text[: self.start] + self.text + text[self.end :]


@dataclass(frozen=True)
class Found:
    """A node, what holds it there, and what it means."""

    node: Node
    parent: Node | None
    number: int
    """Among the values of the parent."""


class Text:
    """A text that is changed splice by splice, and where its values stand at the moment."""

    def __init__(self, text: str, document: int) -> None:
        self.text = text
        self.document = document
        self.splices: list[Splice] = []

    @property
    def root(self) -> Node | None:
        """The document that is changed; None where nothing is written yet."""
        roots = nodes_of(self.text)
        return roots[self.document] if roots else None

    def value(self, path: DocPath) -> Any:
        """What is at a path, `NOTHING` where nothing is."""
        if self.root is None:
            return {} if not path else NOTHING
        value: Any = parse_documents(self.text)[self.document].data
        for step in path:
            try:
                value = value[step]
            except (KeyError, IndexError, TypeError):
                return NOTHING
        return value

    def owned(self, path: DocPath) -> DocPath:
        """The path, or the beginning of it that is written where it belongs: not within an alias, nor by `<<`."""
        node = self.root
        for i, step in enumerate(path):
            if node is None:
                return path
            if node.kind == "alias":
                return path[:i]
            number = index_of(node, step)
            if number is None:
                below = self.value(path[: i + 1])
                return path if below is NOTHING else path[: i + 1]
            node = node.values[number]
        return path

    def find(self, path: DocPath) -> Found:
        """What stands at a path that is there."""
        node = self.root
        assert node is not None
        parent, number = None, 0
        for step in path:
            found = index_of(node, step)
            assert found is not None
            parent, number = node, found
            node = node.values[found]
        return Found(node, parent, number)

    def guard(self, node: Node) -> None:
        """Refuse to change what an alias elsewhere stands for."""
        root = self.root
        assert root is not None
        used = {one.anchor for one in root.walk() if one.kind == "alias"}
        for one in node.walk():
            if one.kind != "alias" and one.anchor in used:
                raise refused(f"'*{one.anchor}' repeats it elsewhere")

    def guard_holder(self, path: DocPath) -> None:
        """Refuse to add to what an alias elsewhere stands for."""
        root = self.root
        assert root is not None
        used = {one.anchor for one in root.walk() if one.kind == "alias"}
        for i in range(len(path) + 1):
            node = self.find(path[:i]).node
            if node.kind != "alias" and node.anchor in used:
                raise refused(f"'*{node.anchor}' repeats it elsewhere")

    def splice(self, start: int, end: int, text: str) -> None:
        """Put a text in place of what is written from `start` to `end`."""
        one = Splice(start, end, text)
        self.splices.append(one)
        self.text = one.apply(self.text)

    def column(self, at: int) -> int:
        """How far a place is from the start of its line."""
        return at - line_start(self.text, at)


NOTHING = object()
"""What is at a path where nothing is."""


def index_of(node: Node, step: str | int) -> int | None:
    """The number of a key, or of an item, that a node itself has."""
    if isinstance(step, str):
        return node.index(step) if node.kind == "mapping" else None
    return step if node.kind == "sequence" and 0 <= step < len(node.values) else None
