"""Regular expressions of a config, matched within a bounded number of steps; read `searcher`.

Python's engine tries one way to match after the other, and `(a+)+$` has more ways than anybody can wait for.  It gets
the patterns that have few ways.  For the others `_Search` follows all ways at once: a set of positions, as the bits
of a number, goes through the pattern from left to right.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from re import _constants as ops  # type: ignore[attr-defined]  # what parsed patterns are made of
from re import _parser  # type: ignore[attr-defined]
from typing import Any, TypeAlias

from mergecore.errors import ConfigError

MAX_PATTERN = 2_000
"""Characters of a pattern."""
FEW_WAYS = 50_000
"""Python's engine gets patterns with up to so many ways to match from one position of a name."""
MAX_STEPS = 200_000
"""For one name; the same on every machine, unlike a time limit."""
LONG = 100
"""Characters of a long name of a tensor."""


def searcher(pattern: str) -> Callable[[str], bool]:
    """Whether a text holds a match of `pattern`, as `re.search` says it.

    Raises:
        ConfigError: E105 for what is not a pattern, or one that cannot be matched in bounded time; without a place.
            The function raises it for a pattern that needs too many steps for a text.
    """
    if len(pattern) > MAX_PATTERN:
        raise _refused(f"has {len(pattern)} characters; the limit is {MAX_PATTERN}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what may change in a later version of Python
            tree = _parser.parse(pattern)
            if _ways(tree) > FEW_WAYS:
                return _Search(tree).found
            return _Quick(re.compile(pattern), tree).found
    except re.error as error:
        raise ConfigError("E105", f"not a regular expression: {error}") from None
    except (RecursionError, OverflowError, MemoryError):
        raise _refused("nests too deeply or repeats too often") from None


def _refused(why: str) -> ConfigError:
    return ConfigError("E105", f"the regular expression {why}", hint="write a simpler one, or several cases")


def _ways(tree: Any) -> float:
    """An upper bound of the ways in which a part matches from one position of a long name."""
    ways = 1.0
    for op, value in tree:
        if op in _REPEATS:
            least, most, part = value
            inner, count = _ways(part), min(most, LONG)
            ways *= (count - min(least, count) + 1) if inner == 1 else min(inner, 1e9) ** min(count, 30)
        elif op is ops.BRANCH:
            ways *= sum(map(_ways, value[1]))
        elif op in (ops.SUBPATTERN, ops.ASSERT, ops.ASSERT_NOT, ops.ATOMIC_GROUP):
            ways *= _ways(value if op is ops.ATOMIC_GROUP else value[-1])
        elif op is ops.GROUPREF_EXISTS:
            ways *= _ways(value[1]) + _ways(value[2] or ())
        ways = min(ways, 1e9)
    return ways


_REPEATS = (ops.MAX_REPEAT, ops.MIN_REPEAT, ops.POSSESSIVE_REPEAT)


# ---- all ways at once --------------------------------------------------------------------------------------


@dataclass
class _Text:
    """A text under search: masks of where characters are of a kind, and the steps that are left."""

    text: str
    steps: int = MAX_STEPS
    masks: dict[int, int] = field(default_factory=dict)
    """By the identity of a `_Character`."""

    @property
    def everywhere(self) -> int:
        """All positions, the end included."""
        return (1 << len(self.text) + 1) - 1


_Part: TypeAlias = Callable[[_Text, int], int]
"""Takes positions where a part of a pattern may begin, as bits; gives those where it may end."""


class _TooMany(Exception):
    """The steps are used up."""


class _Quick:
    """Lets Python's engine look for a match, unless the text is too long for that."""

    def __init__(self, pattern: re.Pattern[str], tree: Any) -> None:
        self.pattern = pattern
        self.tree = tree
        self.search: _Search | None = None

    def found(self, text: str) -> bool:
        """Whether the text holds a match."""
        if len(text) <= 2 * LONG:
            return self.pattern.search(text) is not None
        self.search = self.search or _Search(self.tree)
        return self.search.found(text)


class _Search:
    """Looks for a match of a pattern, and gives up for good when it has taken too long once."""

    def __init__(self, tree: Any) -> None:
        self.part = _sequence(tree, tree.state.flags)
        self.hopeless = False

    def found(self, text: str) -> bool:
        """Whether the text holds a match."""
        try:
            if not self.hopeless:
                one = _Text(text)
                return self.part(one, one.everywhere) != 0
        except (_TooMany, RecursionError):
            self.hopeless = True
        raise _refused("has too many ways to match")


def _sequence(tree: Any, flags: int) -> _Part:
    parts = [_part(op, value, flags) for op, value in tree]

    def follow(text: _Text, positions: int) -> int:
        for part in parts:
            text.steps -= 1
            if text.steps < 0:
                raise _TooMany
            if not positions:
                break
            positions = part(text, positions)
        return positions

    return follow


def _part(op: Any, value: Any, flags: int) -> _Part:
    if op in (ops.LITERAL, ops.NOT_LITERAL, ops.ANY, ops.IN):
        return _Character(op, value, flags)
    if op is ops.AT:
        return _Condition(re.compile(_ANCHORS[value], flags & _OF_CHARACTERS))
    if op is ops.BRANCH:
        return _Branch([_sequence(one, flags) for one in value[1]])
    if op is ops.SUBPATTERN:
        _, added, removed, tree = value
        return _sequence(tree, (flags | added) & ~removed)
    if op in (ops.MAX_REPEAT, ops.MIN_REPEAT):
        least, most, tree = value
        return _Repeat(_sequence(tree, flags), least, most)
    if op in (ops.ASSERT, ops.ASSERT_NOT):
        direction, tree = value
        width = tree.getwidth()[0] if direction < 0 else 0
        return _Look(_sequence(tree, flags), op is ops.ASSERT, direction < 0, width)
    if op is ops.FAILURE:
        return lambda text, positions: 0
    raise _refused("repeats so much that it may not use back references, atomic groups or possessive repeats")


_ANCHORS = {
    ops.AT_BEGINNING: "^",
    ops.AT_BEGINNING_STRING: r"\A",
    ops.AT_END: "$",
    ops.AT_END_STRING: r"\Z",
    ops.AT_BOUNDARY: r"\b",
    ops.AT_NON_BOUNDARY: r"\B",
}
_CATEGORIES = {
    ops.CATEGORY_DIGIT: r"\d",
    ops.CATEGORY_NOT_DIGIT: r"\D",
    ops.CATEGORY_SPACE: r"\s",
    ops.CATEGORY_NOT_SPACE: r"\S",
    ops.CATEGORY_WORD: r"\w",
    ops.CATEGORY_NOT_WORD: r"\W",
}
_OF_CHARACTERS = re.IGNORECASE | re.ASCII | re.DOTALL | re.MULTILINE


class _Character:
    """One character of a kind; Python's engine says of which."""

    def __init__(self, op: Any, value: Any, flags: int) -> None:
        self.kind = re.compile(_written(op, value), flags & _OF_CHARACTERS)
        self.known: dict[str, bool] = {}

    def __call__(self, text: _Text, positions: int) -> int:
        mask = text.masks.get(id(self))
        if mask is None:
            mask = sum(1 << i for i, character in enumerate(text.text) if self._is(character))
            text.masks[id(self)] = mask
        return (positions & mask) << 1

    def _is(self, character: str) -> bool:
        if character not in self.known:
            self.known[character] = self.kind.fullmatch(character) is not None
        return self.known[character]


def _written(op: Any, value: Any) -> str:
    """The pattern of one character, as it is written."""
    if op is ops.ANY:
        return "."
    if op in (ops.LITERAL, ops.NOT_LITERAL):
        return f"[{'^' if op is ops.NOT_LITERAL else ''}{_escaped(value)}]"
    return f"[{''.join(_member(kind, item) for kind, item in value)}]"


def _member(kind: Any, item: Any) -> str:
    if kind is ops.NEGATE:
        return "^"
    if kind is ops.CATEGORY:
        return _CATEGORIES[item]
    return "-".join(map(_escaped, item)) if kind is ops.RANGE else _escaped(item)


def _escaped(number: int) -> str:
    return f"\\U{number:08x}"


class _Condition:
    """A place such as the end of the text."""

    def __init__(self, place: re.Pattern[str]) -> None:
        self.place = place

    def __call__(self, text: _Text, positions: int) -> int:
        return sum(1 << i for i in _bits(positions) if self.place.match(text.text, i))


class _Branch:
    """One of several parts."""

    def __init__(self, parts: list[_Part]) -> None:
        self.parts = parts

    def __call__(self, text: _Text, positions: int) -> int:
        ends = 0
        for part in self.parts:
            ends |= part(text, positions)
        return ends


class _Repeat:
    """A part, several times."""

    def __init__(self, part: _Part, least: int, most: int) -> None:
        self.part = part
        self.least = least
        self.most = most

    def __call__(self, text: _Text, positions: int) -> int:
        for _ in range(self.least):
            before, positions = positions, self.part(text, positions)
            if positions in (0, before):
                break
        ends = fresh = positions
        for _ in range(self.most - self.least):
            if not fresh:
                break
            fresh = self.part(text, fresh) & ~ends
            ends |= fresh
        return ends


class _Look:
    """What has to follow or to precede, or must not, without being taken."""

    def __init__(self, part: _Part, wanted: bool, behind: bool, width: int) -> None:
        self.part = part
        self.wanted = wanted
        self.behind = behind
        self.width = width

    def __call__(self, text: _Text, positions: int) -> int:
        return sum(1 << i for i in _bits(positions) if self._holds(text, i) == self.wanted)

    def _holds(self, text: _Text, i: int) -> bool:
        if not self.behind:
            return self.part(text, 1 << i) != 0
        return i >= self.width and self.part(text, 1 << i - self.width) >> i & 1 == 1


def _bits(positions: int) -> list[int]:
    return [i for i in range(positions.bit_length()) if positions >> i & 1]
