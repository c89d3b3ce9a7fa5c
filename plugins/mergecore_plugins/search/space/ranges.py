"""Configs in which values are ranges: what is searched, and the config that a point gives; read `read_space`.

`_Reader` makes of each value with a tag a `Slot`: its dimensions, and what stands in its place in a config.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from mergecore import ConfigError, Document
from mergecore.errors import Collector
from mergecore.files import SEARCHED, DocPath, Tagged, parse_documents, read_text
from mergecore.types import Dimension, Interval, Json, Options, Point
from mergecore_plugins.search.space.declared import Choice, Range, declared


@dataclass(frozen=True)
class Slot:
    """A value of a config that is searched."""

    document: int
    path: DocPath
    dimensions: tuple[Dimension, ...]
    fill: Callable[[Point], Json]
    tagged: Tagged


@dataclass(frozen=True)
class Space:
    """What is searched: documents with slots."""

    documents: tuple[Document, ...]
    slots: tuple[Slot, ...]
    labels: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """By the name of a choice, its options in words."""
    groups: Sequence[tuple[Tagged, int]] = ()
    """Ranges with a number for each group of layers, and how many groups they have."""

    @property
    def dimensions(self) -> tuple[Dimension, ...]:
        """Everything that can be chosen, each once."""
        return tuple({one.name: one for slot in self.slots for one in slot.dimensions}.values())

    def documents_at(self, point: Point) -> tuple[Document, ...]:
        """The documents with the values of a point, whose places are those of the ranges."""
        filled = {(slot.document, slot.path): slot.fill(point) for slot in self.slots}
        return tuple(
            replace(one, data=cast("Mapping[str, Json]", _filled(dict(one.data), filled, (i,))))
            for i, one in enumerate(self.documents)
        )

    def shown(self, point: Point) -> dict[str, Json]:
        """The point as people read it: options by their words."""
        return {
            name: self.labels[name][int(value)] if name in self.labels else value
            for name, value in point.items()
        }

    def ends(self) -> Iterator[tuple[str, Point]]:
        """Points that reach every end of every range and every option, each with what it tries."""
        middle = {one.name: _middle(one) for one in self.dimensions}
        yield "", middle
        for family in _families(self.slots):
            for index in range(max(_count(one) for one in family)):
                changed = {one.name: _end(one, min(index, _count(one) - 1)) for one in family}
                yield family[0].name, {**middle, **changed}


def _families(slots: Sequence[Slot]) -> list[tuple[Dimension, ...]]:
    """The dimensions of one range together."""
    found = {tuple(one.name for one in slot.dimensions): slot.dimensions for slot in slots}
    return list(found.values())


def _count(dimension: Dimension) -> int:
    return dimension.count if isinstance(dimension, Options) else 2


def _end(dimension: Dimension, index: int) -> float:
    if isinstance(dimension, Options):
        return index
    return _rounded(dimension, dimension.high if index else dimension.low)


def _middle(dimension: Dimension) -> float:
    if isinstance(dimension, Options):
        return 0
    low, high = dimension.low, dimension.high
    return _rounded(dimension, math.sqrt(low * high) if dimension.log else (low + high) / 2)


def _rounded(dimension: Interval, value: float) -> float:
    """A value of a dimension as configs write it: six digits, on the grid, within the ends."""
    if dimension.step is not None:
        steps = round((value - dimension.low) / dimension.step)
        most = math.floor((dimension.high - dimension.low) / dimension.step + 1e-9)
        value = float(f"{dimension.low + min(steps, most) * dimension.step:.12g}")
    elif not dimension.whole:
        value = float(f"{value:.6g}")
    value = min(max(value, dimension.low), dimension.high)
    return round(value) if dimension.whole else value


def tidied(dimensions: Sequence[Dimension], point: Point) -> dict[str, float]:
    """A point of a sampler with the numbers that its config will have."""
    return {
        one.name: int(point[one.name]) if isinstance(one, Options) else _rounded(one, point[one.name])
        for one in dimensions
    }


def _filled(value: Json, filled: Mapping[tuple[int, DocPath], Json], path: tuple[Any, ...]) -> Json:
    if (path[0], path[1:]) in filled:
        return filled[path[0], path[1:]]
    if isinstance(value, dict):
        return {key: _filled(one, filled, (*path, key)) for key, one in value.items()}
    if isinstance(value, list):
        return [_filled(one, filled, (*path, i)) for i, one in enumerate(value)]
    return value


# ---- reading -----------------------------------------------------------------------------------------------


def read_space(config: Path) -> Space:
    """What a file of a config with ranges describes.

    Raises:
        ConfigError: E104 for what is wrong with ranges, several as `Problems`; and as a config's.
    """
    return space_of(parse_documents(read_text(config), str(config), tags=SEARCHED))


def space_of(documents: Sequence[Document]) -> Space:
    """The same for documents that are read already."""
    reader = _Reader()
    for index, document in enumerate(documents):
        tagged = [one for one in document.tagged() if one.path[:1] != ("search",)]
        for one in _outermost(tagged):
            reader.add(index, document, one, [inner for inner in tagged if _is_below(inner.path, one.path)])
        for one in document.tagged():
            if one.path[:1] == ("search",):
                what = "a range cannot stand in 'search', which says how to search"
                reader.problems.add(ConfigError("E104", what, place=one.place, hint="write one value"))
    reader.problems.raise_any()
    return Space(tuple(documents), tuple(reader.slots), reader.labels, reader.groups)


def _outermost(tagged: Sequence[Tagged]) -> list[Tagged]:
    paths = [one.path for one in tagged]
    return [one for one in tagged if not any(_is_below(one.path, path) for path in paths)]


def _is_below(path: DocPath, other: DocPath) -> bool:
    return len(path) > len(other) and path[: len(other)] == other


class _Reader:
    """Gathers slots, and what is wrong with them."""

    def __init__(self) -> None:
        self.problems = Collector()
        self.slots: list[Slot] = []
        self.labels: dict[str, Sequence[str]] = {}
        self.groups: list[tuple[Tagged, int]] = []
        self._by_place: dict[tuple[str, int | None, int | None], str] = {}
        self._named: dict[str, tuple[Range | Choice, Tagged]] = {}

    def add(self, index: int, document: Document, tagged: Tagged, inner: Sequence[Tagged]) -> None:
        with self.problems.collecting():
            if inner and tagged.tag == "!range":
                hint = "write numbers in it"
                raise ConfigError("E104", "a range cannot hold another one", place=inner[0].place, hint=hint)
            said = declared(tagged)
            name = self._name(said, index, document, tagged)
            if isinstance(said, Choice):
                self._add_choice(said, name, index, document, tagged, inner)
            else:
                dimensions, fill = _of_range(said, name)
                if said.groups > 1:
                    self.groups.append((tagged, said.groups))
                self.slots.append(Slot(index, tagged.path, dimensions, fill, tagged))

    def _unnamed(self, index: int, document: Document, tagged: Tagged) -> str:
        """What a range without a name is called: after its model, where that is clear, else after the way to it."""
        short = _after_model(dict(document.data), tagged.path)
        known = self._named.get(short)
        return (
            short
            if short and (known is None or known[1].written == tagged.written)
            else _readable(index, tagged)
        )

    def _name(self, said: Range | Choice, index: int, document: Document, tagged: Tagged) -> str:
        """What the dimensions are called: aliases and equal names are one value."""
        written = (tagged.written.file, tagged.written.line, tagged.written.column)
        name = said.name or self._by_place.get(written) or self._unnamed(index, document, tagged)
        self._by_place[written] = name
        known = self._named.setdefault(name, (said, tagged))
        if known[1].written != tagged.written and not said.same_as(known[0]):
            what = f"'{name}' is another range at {known[1].place}; ranges of one name have one value"
            raise ConfigError("E104", what, place=tagged.place, hint="write the same range, or another name")
        return name

    def _add_choice(
        self, said: Choice, name: str, index: int, document: Document, tagged: Tagged, inner: Sequence[Tagged]
    ) -> None:
        """A choice, whose options may hold ranges of their own."""
        options = list(said.options)
        self.labels.setdefault(name, [_words(one) for one in options])
        before = len(self.slots)
        for one in _outermost(inner):
            self.add(index, document, one, [deeper for deeper in inner if _is_below(deeper.path, one.path)])
        within, self.slots = self.slots[before:], self.slots[:before]
        own = (*tagged.path, "options") if isinstance(tagged.value, dict) else tagged.path
        chosen = Options(name=name, count=len(options))
        dimensions = (chosen, *(each for slot in within for each in slot.dimensions))

        def fill(point: Point) -> Json:
            option = int(point[name])
            filled = {(0, slot.path): slot.fill(point) for slot in within}
            return _filled(options[option], filled, (0, *own, option))

        self.slots.append(Slot(index, tagged.path, dimensions, fill, tagged))


def _after_model(data: Json, path: DocPath) -> str:
    """Such as `code.weight`: the last name of the model of an entry, and the way on; empty where it is of none."""
    model, value, way = "", data, path
    for index, step in enumerate(path):
        if isinstance(value, Mapping) and isinstance(value.get("model"), str) and step != "model":
            model, way = str(value["model"]).rstrip("/").rsplit("/", 1)[-1], path[index:]
        value = value[step]  # type: ignore[index]
    return f"{model}.{_way(way)}" if model else ""


def _readable(document: int, tagged: Tagged) -> str:
    """A name for a value that has none: the way to it."""
    return f"{document + 1}:{_way(tagged.path)}" if document else _way(tagged.path)


def _way(path: DocPath) -> str:
    """A path in words, without what goes without saying."""
    steps = [step for step in path if step not in ("parameters", "value")]
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps).removeprefix(".")


def _words(option: Json) -> str:
    import json

    return option if isinstance(option, str) else json.dumps(option, ensure_ascii=False)


def _of_range(said: Range, name: str) -> tuple[tuple[Dimension, ...], Callable[[Point], Json]]:
    """The dimensions of a range, and the value that they give."""

    def one(label: str) -> Interval:
        return Interval(
            name=label, low=said.low, high=said.high, log=said.log, step=said.step, whole=said.whole
        )

    layers = [f"{name}[{i}]" for i in range(said.groups)] if "layer_group" in said.per else [name]
    if "role" not in said.per:
        return tuple(map(one, layers)), lambda point: _one_or_many([point[label] for label in layers])
    by_role = {role: [f"{label}.{role}" for label in layers] for role in (*said.roles, "rest")}

    def fill(point: Point) -> Json:
        values = {role: _one_or_many([point[label] for label in labels]) for role, labels in by_role.items()}
        rest = values.pop("rest")
        return [*({"filter": f"role:{role}", "value": one} for role, one in values.items()), {"value": rest}]

    return tuple(one(label) for labels in by_role.values() for label in labels), fill


def _one_or_many(values: Sequence[float]) -> Json:
    return values[0] if len(values) == 1 else [*values]
