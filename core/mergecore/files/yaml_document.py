"""A YAML file as plain values that know where they were written; strict where YAML guesses.

Read `parse_document`, then `_Builder`, which makes nodes from the parser's events.  Scalars follow YAML 1.2
(`1e-3` is a number, `yes` is text), tags are refused but for those that the caller knows, and aliases may not blow a
small file up.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias, cast

import yaml
from yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    Event,
    MappingStartEvent,
    NodeEvent,
    ScalarEvent,
    SequenceStartEvent,
)

from mergecore.errors import Collector, ConfigError, Place, PolicyError, did_you_mean
from mergecore.files.strict_json import Json
from mergecore.files.yaml_text import ODD, ODD_LINE, PLAINLY, check_text, odd_letter, read_text

DocPath: TypeAlias = tuple[str | int, ...]
"""The way to a value: keys and list indices from the root."""

SEARCHED = ("!range", "!choice")
"""The tags of values that a search is to find."""

MAX_DEPTH = 32
MAX_NODES = 250_000
"""Values that aliases may stand for, all together."""


@dataclass(frozen=True)
class Document:
    """A mapping that was read, its text, and the place of everything in it."""

    name: str
    data: Mapping[str, Json]
    text: str = ""
    _root: Node | None = None
    """None for a document that was never text, whose values have no places."""

    def place(self, path: DocPath = ()) -> Place | None:
        """Where the value at `path` is written; the nearest one around it when there is none."""
        node = self._root
        for step in path:
            if node is None or (inner := _child(node, step)) is None:
                break
            node = inner
        return node.place if node else None

    def key_place(self, path: DocPath) -> Place | None:
        """Where the last key of `path` is written; of a list item, where the item is."""
        node = self._root
        for step in path[:-1]:
            node = _child(node, step) if node else None
        place = node.key_places.get(str(path[-1])) if node and path else None
        return place or self.place(path)

    def tagged(self) -> Iterator[Tagged]:
        """Every value with a tag, from the top down."""
        if self._root is not None:
            yield from _tagged(self._root, ())


@dataclass(frozen=True)
class Tagged:
    """A value that has a tag such as `!range`.

    place: where it stands; `written` where it is written, which differs for an alias.
    """

    path: DocPath
    tag: str
    value: Json
    place: Place
    written: Place


@dataclass(frozen=True)
class Node:
    """A value with its places; `size` and `height` count everything below it, aliases replaced.

    plain: a scalar without quotes.  tag: one that the caller knows, written at `written`.
    """

    value: Json
    place: Place
    children: Mapping[str | int, Node]
    key_places: Mapping[str, Place]
    size: int = 1
    height: int = 0
    plain: bool = False
    tag: str = ""
    written: Place | None = None


def read_document(path: Path) -> Document:
    """The only document in a file, which must be a mapping.

    Raises:
        ConfigError: E101 syntax, E102 a key twice, E104 no mapping or an ambiguous scalar, E105 no such file,
            E114 no UTF-8.
        PolicyError: E106 a tag, E107 a limit.
    """
    return parse_document(read_text(path), str(path))


def read_documents(path: Path, *, tags: Collection[str] = ()) -> tuple[Document, ...]:
    """All documents in a file, at least one; `tags` and errors as for `parse_documents`."""
    return parse_documents(read_text(path), str(path), tags=tags)


def parse_document(text: str, name: str = "<config>") -> Document:
    """The only document in `text`, which messages call `name`; errors as for `read_document`."""
    documents = parse_documents(text, name)
    if len(documents) > 1:
        raise ConfigError(
            "E101",
            f"one document is expected in a config, {len(documents)} were found",
            place=documents[1].place(),
            hint="remove the '---' line, and what is behind it",
        )
    return documents[0]


def parse_documents(text: str, name: str = "<config>", *, tags: Collection[str] = ()) -> tuple[Document, ...]:
    """All documents in `text`, at least one; errors as for `read_document`.

    tags: those that values may have, such as `!range`; `Document.tagged` tells which have one.
    """
    check_text(text, name)
    builder = _Builder(name, tags)
    roots = [root for root in builder.documents(_events(text, name)) if root.value is not None]
    for root in roots:
        if not isinstance(root.value, dict):
            what = f"a config must be a mapping of keys to values; this is {_kind(root)}"
            builder.problems.add(
                ConfigError("E104", what, place=root.place, hint="begin with 'merge_method: …'")
            )
    builder.problems.raise_any()
    if not roots:
        raise ConfigError(
            "E101", "the file is empty", place=Place(name, 1, 1), hint="begin with 'merge_method: …'"
        )
    return tuple(Document(name, cast("dict[str, Json]", root.value), text, root) for root in roots)


def _tagged(node: Node, path: DocPath) -> Iterator[Tagged]:
    if node.tag and node.written:
        yield Tagged(path, node.tag, node.value, node.place, node.written)
    for step, child in node.children.items():
        yield from _tagged(child, (*path, step))


def _child(node: Node, step: str | int) -> Node | None:
    return node.children.get(step)


def _kind(node: Node) -> str:
    if isinstance(node.value, list):
        return "a list"
    return f"the single value {node.value!r}"


# ---- syntax ------------------------------------------------------------------------------------------------


def _events(text: str, name: str) -> Iterator[Event]:
    loader = yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader
    try:
        yield from yaml.parse(text, Loader=loader)
    except yaml.MarkedYAMLError as error:
        raise _syntax_error(error, text, name) from None
    except yaml.YAMLError as error:
        raise ConfigError("E101", f"not valid YAML: {error}", place=name) from None


def _syntax_error(error: yaml.MarkedYAMLError, text: str, name: str) -> ConfigError:
    """An unclosed bracket or quote is noticed at the end of the text, and shown where it was opened."""
    mark = error.problem_mark
    lines = text.rstrip().splitlines()
    at_end = mark is None or mark.line >= len(lines)
    shown = (error.context_mark or mark) if at_end else mark
    place = Place(name, shown.line + 1, shown.column + 1) if shown is not None else None
    problem = error.problem or "not valid YAML"
    what = ", ".join(part for part in (error.context, problem) if part)
    line = "" if mark is None or at_end else lines[mark.line]
    hint = "indent with spaces, not with tabs" if "\t" in line else None
    around = [] if mark is None else lines[max(0, mark.line - 1) : mark.line + 1]
    if odd := ODD_LINE.search("\n".join(around)):
        what, hint = f"{what}; there is {odd_letter(odd.group())}", PLAINLY
    return ConfigError("E101", f"not valid YAML: {what}", place=place, hint=hint)


# ---- nodes -------------------------------------------------------------------------------------------------


class _Builder:
    """Makes a tree of nodes from events; what is wrong but does not stop it is gathered in `problems`."""

    def __init__(self, name: str, tags: Collection[str] = ()) -> None:
        self.name = name
        self.tags = tags
        self.problems = Collector()
        self._anchors: dict[str, Node | None] = {}
        self._from_aliases = 0

    def documents(self, events: Iterator[Event]) -> Iterator[Node]:
        for event in events:
            if isinstance(event, DocumentStartEvent):
                self._anchors.clear()
                yield self._node(next(events), events, 0)

    def _node(self, event: Event, events: Iterator[Event], depth: int) -> Node:
        place = self._place(event)
        if depth > MAX_DEPTH:
            raise PolicyError("E107", f"nested deeper than {MAX_DEPTH} levels", place=place)
        assert isinstance(event, NodeEvent)
        if isinstance(event, AliasEvent):
            return self._alias(str(event.anchor), place, depth)
        tag = self._tag(event, place)
        anchor = event.anchor
        if anchor is not None:
            self._anchors[anchor] = None
        if isinstance(event, ScalarEvent):
            node = self._scalar(event, place)
        elif isinstance(event, SequenceStartEvent):
            node = self._list(events, place, depth)
        else:
            assert isinstance(event, MappingStartEvent)
            node = self._mapping(events, place, depth)
        if tag:
            node = replace(node, tag=tag, written=place)
        if anchor is not None:
            self._anchors[anchor] = node
        return node

    def _alias(self, anchor: str, place: Place, depth: int) -> Node:
        if anchor not in self._anchors:
            near = did_you_mean(anchor, list(self._anchors))
            raise ConfigError(
                "E101",
                f"the alias '*{anchor}' is not defined{near}",
                place=place,
                hint=f"write '&{anchor}' before it",
            )
        target = self._anchors[anchor]
        if target is None:
            raise PolicyError("E107", f"aliases may not contain themselves, as '*{anchor}' does", place=place)
        if depth + target.height > MAX_DEPTH:
            raise PolicyError("E107", f"aliases nest deeper than {MAX_DEPTH} levels", place=place)
        self._from_aliases += target.size
        if self._from_aliases > MAX_NODES:
            what = f"aliases expand to more than {MAX_NODES} values"
            raise PolicyError("E107", what, place=place, hint="use fewer aliases")
        return replace(target, place=place)

    def _list(self, events: Iterator[Event], place: Place, depth: int) -> Node:
        items: list[Node] = []
        while isinstance(event := next(events), NodeEvent):
            items.append(self._node(event, events, depth + 1))
        value: list[Json] = [item.value for item in items]
        return self._sized(Node(value, place, dict(enumerate(items)), {}))

    def _mapping(self, events: Iterator[Event], place: Place, depth: int) -> Node:
        entries: dict[str | int, Node] = {}
        key_places: dict[str, Place] = {}
        merged: Node | None = None
        while isinstance(event := next(events), NodeEvent):
            key = self._node(event, events, depth + 1)
            node = self._node(next(events), events, depth + 1)
            name = self._key(key)
            if name in key_places:
                what = f"'{name}' occurs twice; first at line {key_places[name].line}"
                self.problems.add(ConfigError("E102", what, place=key.place, hint="keep one of them"))
                continue
            key_places[name] = key.place
            if key.plain and name == "<<":
                merged = node
            else:
                entries[name] = node
        for source in self._merge_sources(merged) if merged else ():
            entries = {**source.children, **entries}
            key_places = {**source.key_places, **key_places}
        value: dict[str, Json] = {str(name): node.value for name, node in entries.items()}
        return self._sized(Node(value, place, entries, key_places))

    def _merge_sources(self, node: Node) -> list[Node]:
        """What `<<` merges: a mapping or several, of which an earlier one wins."""
        sources = list(node.children.values()) if isinstance(node.value, list) else [node]
        for source in sources:
            if not isinstance(source.value, dict):
                what = "'<<' takes a mapping"
                self.problems.add(ConfigError("E104", what, place=source.place, hint="write '<<: *name'"))
        return [source for source in sources if isinstance(source.value, dict)]

    def _key(self, node: Node) -> str:
        if isinstance(node.value, str):
            return node.value
        kind = f"{node.value!r}" if isinstance(node.value, (bool, int, float)) else "this"
        what = f"a key must be text, which {kind} is not"
        hint = "write it in quotes"
        if isinstance(node.value, int) and not isinstance(node.value, bool):
            hint += f"; for a decimal write a point, as in 0.{node.value}"
        self.problems.add(ConfigError("E104", what, place=node.place, hint=hint))
        return str(node.value)

    def _scalar(self, event: ScalarEvent, place: Place) -> Node:
        text = event.value
        if not event.implicit[0]:
            return Node(text, place, {}, {})
        if odd := ODD.search(text):
            self.problems.add(ConfigError("E101", odd_letter(odd.group()), place=place, hint=PLAINLY))
        if _AMBIGUOUS.fullmatch(text):
            sign, digits = text.rstrip("0123456789"), text.lstrip("+-").lstrip("0") or "0"
            what = f"'{text}' is ambiguous (octal?)"
            hint = f"write {sign}{digits} for the decimal number, 0o{digits} for octal, '{text}' for text"
            self.problems.add(ConfigError("E104", what, place=place, hint=hint))
        return Node(self._resolved(text, place), place, {}, {}, plain=True)

    def _resolved(self, text: str, place: Place) -> Json:
        if len(text) > MAX_DIGITS and _INTEGER.fullmatch(text):
            raise PolicyError(
                "E107", f"a whole number of {len(text)} digits; the limit is {MAX_DIGITS}", place=place
            )
        return plain_scalar(text)

    def _sized(self, node: Node) -> Node:
        children = node.children.values()
        size = 1 + sum(child.size for child in children)
        height = 1 + max((child.height for child in children), default=0)
        return replace(node, size=size, height=height)

    def _tag(self, event: NodeEvent, place: Place) -> str:
        """The tag of a value, if it may have one."""
        tag = cast("str | None", getattr(event, "tag", None))
        if tag is None or tag in self.tags:
            return tag or ""
        if tag in SEARCHED:
            what = f"the tag '{tag}' is for `mergecore search`; here a config holds plain values only"
            hint = "run `mergecore search CONFIG OUT`, or write one value"
        else:
            shown = tag.replace("tag:yaml.org,2002:", "!!")
            near = did_you_mean(shown, sorted(self.tags))
            what = f"the tag '{shown}' is refused; a config holds plain values only, and no flag allows more"
            what, hint = (f"unknown tag '{shown}'{near}", "correct it") if near else (what, "remove the tag")
        self.problems.add(PolicyError("E106", what, place=place, hint=hint))
        return ""

    def _place(self, event: Event) -> Place:
        mark = event.start_mark
        assert mark is not None
        return Place(self.name, mark.line + 1, mark.column + 1)


# ---- scalars -----------------------------------------------------------------------------------------------

MAX_DIGITS = 100
_AMBIGUOUS = re.compile(r"[-+]?0[0-9]+")
_INTEGER = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(
    r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
)
_WORDS: dict[str, Json] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}


def plain_scalar(text: str) -> Json:
    """The value of an unquoted scalar by the core schema of YAML 1.2."""
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text):
        return int(text, 0) if text[:2] in ("0o", "0x") else int(text)
    if _FLOAT.fullmatch(text):
        return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
    return text


PlaceOf: TypeAlias = Callable[[DocPath], Place | None]
"""Where the value at a path of the document is written."""


def nowhere(path: DocPath) -> None:
    """The `PlaceOf` of values that were never text."""
