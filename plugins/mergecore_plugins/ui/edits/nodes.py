"""Where everything in a YAML text stands, to the character; read `nodes_of`.

The values come from the parser that reads configs; here are only their places, which edits replace.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

import yaml
from yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    NodeEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)

Kind: TypeAlias = Literal["scalar", "mapping", "sequence", "alias"]

BREAK = re.compile("\r\n|[\n\r\x85\u2028\u2029]")
_GAP = re.compile(
    "(?:[ \t\n\r\x85\u2028\u2029]+|(?<=[ \t\n\r\x85\u2028\u2029,\\[\\]{}])#[^\n\r\x85\u2028\u2029]*)*"
)
_ANCHOR = re.compile(r"&[^\s,\[\]{}]+")
_COMMENT = re.compile("(?:^|(?<=[ \t\n\r\x85\u2028\u2029]))#[^\n\r\x85\u2028\u2029]*")


@dataclass(frozen=True)
class Node:
    """A value in the text: `text[start:end]`, behind its anchor if it has one, which begins at `outer`."""

    kind: Kind
    outer: int
    start: int
    end: int
    """Of a block, the end of its last value."""
    flow: bool = False
    style: str = ""
    """Of a scalar: the quote, `|`, `>`, or nothing where it is plain."""
    anchor: str | None = None
    """Its own, or the one that an alias stands for."""
    name: str = ""
    """The text of a scalar."""
    keys: tuple[Node, ...] = ()
    values: tuple[Node, ...] = ()
    """Of a mapping, in the order of `keys`; the items of a sequence."""

    @property
    def empty(self) -> bool:
        """Whether nothing is written: a null without a word."""
        return self.kind == "scalar" and self.start == self.end

    @property
    def block(self) -> bool:
        """Whether it is a mapping or a sequence without brackets."""
        return self.kind in ("mapping", "sequence") and not self.flow

    @property
    def merges(self) -> tuple[Node, ...]:
        """What `<<` merges into a mapping."""
        pairs = zip(self.keys, self.values, strict=True) if self.kind == "mapping" else ()
        return tuple(value for key, value in pairs if key.name == "<<" and not key.style)

    def ends_with_break(self, text: str) -> bool:
        """Whether a text of several lines ends it, to which the last break belongs."""
        node = self
        while node.block and node.values:
            node = node.values[-1]
        return node.style in ("|", ">") and text[node.end - 1 : node.end] in ("\n", "\r", "\x85")

    def index(self, key: str) -> int | None:
        """The number of a key of its own, not of one that `<<` merges."""
        own = [one.name if one.name != "<<" or one.style else None for one in self.keys]
        return own.index(key) if key in own else None

    def walk(self) -> Iterator[Node]:
        """It, and everything in it, in order of the text."""
        yield self
        if self.kind == "mapping":
            for key, value in zip(self.keys, self.values, strict=True):
                yield from key.walk()
                yield from value.walk()
        else:
            for one in self.values:
                yield from one.walk()


def nodes_of(text: str) -> tuple[Node, ...]:
    """The documents of a text that can be read as a config; those that are empty are left out."""
    loader = yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader
    events = iter(yaml.parse(text, Loader=loader))
    roots = [_node(text, next(events), events) for event in events if isinstance(event, DocumentStartEvent)]
    return tuple(root for root in roots if not _null(root))


def _null(node: Node) -> bool:
    return node.kind == "scalar" and not node.style and node.name in ("", "~", "null", "Null", "NULL")


def _node(text: str, event: Event, events: Iterator[Event]) -> Node:
    assert isinstance(event, NodeEvent)
    outer, end, anchor = *_span(event), event.anchor
    if isinstance(event, AliasEvent):
        return Node("alias", outer, outer, end, anchor=anchor)
    start = behind_anchor(text, outer) if anchor else outer
    if isinstance(event, ScalarEvent):
        return Node(
            "scalar", outer, min(start, end), end, style=_style(event), anchor=anchor, name=event.value
        )
    assert isinstance(event, MappingStartEvent | SequenceStartEvent)
    kind: Kind = "mapping" if isinstance(event, MappingStartEvent) else "sequence"
    keys: list[Node] = []
    values: list[Node] = []
    while not isinstance(inner := next(events), MappingEndEvent | SequenceEndEvent):
        if kind == "mapping":
            keys.append(_node(text, inner, events))
            inner = next(events)
        values.append(_node(text, inner, events))
    flow = bool(event.flow_style)
    end = _span(inner)[1] if flow else max(start, *(one.end for one in (*keys, *values)))
    return Node(kind, outer, start, end, flow, anchor=anchor, keys=tuple(keys), values=tuple(values))


def _span(event: Event) -> tuple[int, int]:
    assert event.start_mark is not None
    assert event.end_mark is not None
    return event.start_mark.index, event.end_mark.index


def _style(event: ScalarEvent) -> str:
    return (event.style or "") if event.style != "plain" else ""


# ---- what is between the values ----------------------------------------------------------------------------


def behind_anchor(text: str, at: int) -> int:
    """Where a value begins whose anchor is written at a place."""
    found = _ANCHOR.match(text, at)
    return at if found is None else skip(text, found.end())


def skip(text: str, at: int) -> int:
    """The first character from a place on that is neither blank nor in a comment."""
    found = _GAP.match(text, at)
    return found.end() if found else at


def comments(text: str, start: int = 0, end: int | None = None) -> list[str]:
    """The comments in a part of a text, in order."""
    return [text[a:b] for a, b in comment_spans(text) if start <= a and (end is None or b <= end)]


def comment_spans(text: str) -> list[tuple[int, int]]:
    """Where the comments are."""
    inside = [(a, b) for root in nodes_of(text) for a, b in _opaque(text, root)]
    spans: list[tuple[int, int]] = []
    at = 0
    for a, b in [*inside, (len(text), len(text))]:
        while (found := _COMMENT.search(text, at)) and found.start() < a:
            spans.append(found.span())
            at = found.end()
        at = max(at, b)
    return spans


def _opaque(text: str, root: Node) -> Iterator[tuple[int, int]]:
    """The scalars, in which a `#` is no comment; what follows the head of a block scalar."""
    for node in root.walk():
        if node.kind == "scalar" and not node.empty:
            head = BREAK.search(text, node.start) if node.style in ("|", ">") else None
            yield (head.start() if head else node.start), node.end


def line_start(text: str, at: int) -> int:
    """Where the line of a place begins."""
    ends = [found.end() for found in BREAK.finditer(text, 0, at)]
    return ends[-1] if ends else 0


def before_break(text: str, at: int) -> int:
    """Where the line above one that begins at a place ends, before the break."""
    ends = [found.start() for found in BREAK.finditer(text, 0, at)]
    return ends[-1] if ends else 0


def line_end(text: str, at: int) -> int:
    """Where the line of a place ends, before the break."""
    found = BREAK.search(text, at)
    return found.start() if found else len(text)


def next_line(text: str, at: int) -> int:
    """Where the line after that of a place begins, or the end of the text."""
    found = BREAK.search(text, at)
    return found.end() if found else len(text)


def newline(text: str, at: int = 0) -> str:
    """How lines end: that of a place, or the first; a plain one where there is none."""
    found = BREAK.search(text, at) or BREAK.search(text)
    return found.group() if found else "\n"
