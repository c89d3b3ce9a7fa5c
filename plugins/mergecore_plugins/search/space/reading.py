"""A config with ranges and its section `search`, read and checked; read `read_search`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from mergecore import ConfigError, Document
from mergecore.errors import Collector, did_you_mean
from mergecore.files import SEARCHED, parse_documents, read_text
from mergecore.types import Json
from mergecore_plugins.search.space.ranges import Space, space_of
from mergecore_plugins.search.space.section import Objective, SamplerSection, SearchSection

KEY = "search"


@dataclass(frozen=True)
class Search:
    """What a file describes: what is searched, and how."""

    space: Space
    section: SearchSection
    written: Document
    """The document that holds the section, for the places of what is wrong in it."""


def read_search(config: Path, instead: dict[str, Json] | None = None) -> Search:
    """What a file describes.

    instead: what the command line says in place of keys of `search`; None where the file says all.

    Raises:
        ConfigError: E103 to E105 for everything that is wrong with ranges and section, several as `Problems`.
    """
    documents = parse_documents(read_text(config), str(config), tags=SEARCHED)
    problems = Collector()
    written = _holder(documents, problems)
    section = space = None
    with problems.collecting():
        section = read_section(written, instead or {})
    bare = [
        replace(one, data={key: each for key, each in one.data.items() if key != KEY}) for one in documents
    ]
    with problems.collecting():
        space = space_of(bare)
    problems.raise_any()
    assert section is not None
    assert space is not None
    if not space.slots:
        what = "nothing in this config is a range, so there is nothing to search"
        hint = "write such as 'weight: !range [0.1, 0.9]', or run `mergecore merge`"
        raise ConfigError("E104", what, place=documents[0].place(), hint=hint)
    return Search(space, section, written)


def _holder(documents: Sequence[Document], problems: Collector) -> Document:
    """The document that has the section; the last one where none has."""
    having = [one for one in documents if KEY in one.data]
    for other in having[1:]:
        what = "'search' stands in two documents; one says how all of them are searched"
        problems.add(ConfigError("E102", what, place=other.key_place((KEY,)), hint="keep one"))
    return having[0] if having else documents[-1]


def read_section(document: Document, instead: dict[str, Json]) -> SearchSection:
    """The section of a document.

    Raises:
        ConfigError: E103 to E105, several as `Problems`.
    """
    if KEY not in document.data:
        what = "there is no section 'search', which says what is to be good"
        hint = "`mergecore search --help` shows an example"
        raise ConfigError("E105", what, place=document.place(), hint=hint)
    said = document.data[KEY] or {}
    if not isinstance(said, dict):
        what = f"'search' is {said!r}; a mapping is expected"
        raise ConfigError("E104", what, place=document.place((KEY,)), hint="write 'search: {trials: 60, …}'")
    try:
        section = SearchSection.model_validate({**said, **instead})
    except ValidationError as error:
        problems = Collector()
        for detail in error.errors():
            problems.add(_explained(dict(detail), document))
        problems.raise_any()
        raise
    if section.trials is None and section.time is None:
        hint = "write 'trials: 60', or 'time: 2h'"
        raise ConfigError(
            "E105", "'search' says neither 'trials' nor 'time'", place=document.place((KEY,)), hint=hint
        )
    return section


def _explained(detail: dict[str, Any], document: Document) -> ConfigError:
    """What pydantic found, in the words of a config."""
    way = tuple(step for step in detail["loc"] if isinstance(step, int) or not step.startswith(_INNER))
    path = (KEY, *way)
    named = f"'{way[-1]}'" if way else "'search'"
    within = f" of '{'.'.join(map(str, path[:-1]))}'" if way else ""
    if detail["type"] == "extra_forbidden":
        known = _keys(way[:-1])
        what = f"unknown key {named} in '{'.'.join(map(str, path[:-1]))}'{did_you_mean(str(way[-1]), known)}"
        return ConfigError("E103", what, place=document.key_place(path), hint=f"there are {', '.join(known)}")
    if detail["type"] == "missing":
        what = f"{named}{within} is missing"
        hint = "`mergecore search --help` shows an example"
        return ConfigError("E105", what, place=document.place(path), hint=hint)
    said = str(detail["msg"]).removeprefix("Value error, ")
    what = f"{named}{within}: {said[:1].lower()}{said[1:]}"
    return ConfigError(
        "E104", what, place=document.place(path), hint="`mergecore search --help` shows an example"
    )


_INNER = ("function-", "literal", "dict", "union", "tagged-")
"""How pydantic calls the ways that it tries."""


def _keys(way: tuple[str | int, ...]) -> list[str]:
    """The keys that the section, or a part of it, may have."""
    parts: dict[object, type[BaseModel]] = {"sampler": SamplerSection, "objectives": Objective}
    kind = parts.get(way[0], SearchSection) if way else SearchSection
    return list(kind.model_fields)
