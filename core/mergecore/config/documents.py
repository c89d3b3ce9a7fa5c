"""Documents of every kind: those written in Python, and what all of them may say; read `read_document`."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence, Set
from pathlib import Path
from typing import TypeAlias, TypeVar, cast

import numpy as np
from pydantic import BaseModel, Field, ValidationError, create_model

from mergecore.config.chosen import check_chosen
from mergecore.config.grammar import (
    SECTIONS,
    ExecutorConfig,
    Output,
    OutputConfig,
    Section,
    Seed,
    Title,
    WhereRun,
)
from mergecore.config.messages import complaints, explained
from mergecore.config.parameters.declared import shown
from mergecore.config.parts import parts
from mergecore.config.reference import exists_below
from mergecore.config.values import ChosenFiles
from mergecore.errors import Collector, ConfigError, MergecoreError
from mergecore.files.yaml_document import DocPath, Document, read_documents
from mergecore.plugins.registry import Registry
from mergecore.types import Json

S = TypeVar("S", bound=BaseModel)

Config: TypeAlias = "Mapping[str, object]"
"""A config as a mapping; its values are those of JSON, paths, tuples, and numbers of numpy."""

Configs: TypeAlias = "Config | Document | Sequence[Config | Document]"
"""A config, or several of which one reads what another makes; a `Document` knows the place of everything in it."""


def documents_of(config: Path | str | Configs) -> tuple[Document, ...]:
    """The documents of a file, or those that mappings stand for.

    Raises:
        ConfigError: as `read_documents` and `document_of` do.
    """
    if isinstance(config, Path | str):
        return read_documents(Path(config))
    if alone := isinstance(config, Mapping | Document):
        config = [config]
    if not isinstance(config, Sequence):
        what = f"the config is a {type(config).__name__}; a mapping, a list of mappings or a path is expected"
        raise ConfigError("E104", what)
    for i, one in enumerate(config):
        if not isinstance(one, Mapping | Document):
            what = f"config[{i}] is a {type(one).__name__}; a mapping is expected"
            raise ConfigError("E104", what, hint="give a mapping, a list of mappings, or the path of a file")
    if not config:
        raise ConfigError("E104", "the list of configs is empty", hint="give at least one mapping")
    return tuple(
        one
        if isinstance(one, Document)
        else document_of(cast("Config", one), "config" if alone else f"config[{i}]")
        for i, one in enumerate(config)
    )


def document_of(config: Config, name: str = "config") -> Document:
    """The document that `config` stands for; messages call it `name`.

    Raises:
        ConfigError: E104 for a value that no file could hold, naming the keys that lead to it.
    """
    return Document(name, cast("dict[str, Json]", _plain(config, name)))


def _plain(value: object, place: str) -> Json:
    match value:
        case None | bool() | int() | float() | str():
            return value
        case os.PathLike():
            return os.fsdecode(value)
        case np.floating() if isinstance(value.item(), np.generic):  # wider than the numbers of Python
            return float(value)
        case np.generic() if not isinstance(value.item(), np.generic):
            return _plain(value.item(), place)
        case Mapping():
            return {_key(key, place): _plain(inner, f"{place}.{key}") for key, inner in value.items()}
        case Sequence() | np.ndarray() if not isinstance(value, bytes | bytearray):
            return [_plain(inner, f"{place}[{i}]") for i, inner in enumerate(value)]
    kind = type(value).__name__
    hint = (
        "sets have no order; write a list"
        if isinstance(value, Set)
        else "write text, a number, a list or a dict"
    )
    raise ConfigError("E104", f"a config cannot hold a {kind}", place=place, hint=hint)


def _key(key: object, place: str) -> str:
    if isinstance(key, str):
        return key
    what = f"the key {key!r} is a {type(key).__name__}, not text"
    raise ConfigError("E104", what, place=place, hint="write it in quotes")


def mentioned_folders(config: Path) -> list[Path]:
    """The models that a config names and that are here, even if there is something wrong with it."""
    try:
        documents = documents_of(config)
    except MergecoreError:
        return []
    named = {
        str(part[key])
        for document in documents
        for _, part in parts(document.data)
        for key in ("base_model", "model")
        if key in part
    }
    return [Path(text) for text in sorted(named) if exists_below(Path())(text)]


# ---- what every document may say ---------------------------------------------------------------------------


class CommonSection(Section):
    """The keys that mean the same in every document."""

    name: Title = None
    recipe: str | None = Field(default=None, description="the recipe, where several accept the document")
    seed: Seed = 0
    output: Output = OutputConfig()
    executor: WhereRun = ExecutorConfig()
    side_files: ChosenFiles = Field(default={})


def common_of(document: Document) -> CommonSection:
    """What a document, which was read before, says under the keys that all documents have."""
    return CommonSection.model_validate(
        {key: document.data[key] for key in CommonSection.model_fields if key in document.data}
    )


def whole(schema: type[BaseModel], recipe: str) -> type[BaseModel]:
    """The class of a whole document of a recipe: what `schema` declares, and what every document may say."""
    made = create_model(schema.__name__, __base__=(schema, CommonSection))
    made.title = getattr(schema, "title", f"a document of the recipe '{recipe}'")  # type: ignore[attr-defined]
    return made


def read_document(
    document: Document,
    schema: type[S],
    recipe: str,
    registry: Registry,
    doubts: list[ConfigError] | None,
    named: list[Json] | None = None,
) -> S:
    """What a document of a recipe says, as `schema` declares it.

    doubts: takes what may be another thing than it looks like; None makes errors of it.
    named: takes what stands where models are named, even if the document is wrong.

    Raises:
        ConfigError: E103 to E105, E109, E112, with places; several as `Problems`.
    """
    problems = Collector()
    unsure: list[ConfigError] = []
    kind = whole(schema, recipe)
    sections = {
        name: keys for name, keys in SECTIONS.items() if name in kind.model_fields and name != "tokenizer"
    }
    check_chosen(document, registry, sections, problems, unsure)
    (problems.errors if doubts is None else doubts).extend(unsure)
    context = {
        "exists": exists_below(Path()),
        "folder": Path(),
        "known": {},
        "named": [] if named is None else named,
    }
    try:
        settings = kind.model_validate(dict(document.data), context=context)
        for path, value in _booleans(settings, document.data, ()):
            where = f"an item of '{path[-2]}'" if isinstance(path[-1], int) else f"'{path[-1]}'"
            what = f"{where} is {shown(value)}; a number is expected"
            problems.add(ConfigError("E104", what, place=document.place(path)))
        problems.raise_any()
        return cast("S", settings)
    except ValidationError as error:
        for detail in complaints(error):
            problems.add(explained(detail, document, kind, recipe, None))
    problems.raise_any()
    raise AssertionError("what pydantic refuses is an error")


def places_of(document: Document, values: Sequence[Json]) -> Iterator[tuple[DocPath, str]]:
    """The texts of a document that are among `values`, the very objects, with the ways to them."""
    wanted = {id(value) for value in values}
    for path, value in _leaves(document.data, ()):
        if isinstance(value, str) and id(value) in wanted:
            yield path, value


def _leaves(data: object, path: DocPath) -> Iterator[tuple[DocPath, object]]:
    if isinstance(data, Mapping):
        for key, value in data.items():
            yield from _leaves(value, (*path, key))
    elif isinstance(data, list | tuple):
        for index, value in enumerate(data):
            yield from _leaves(value, (*path, index))
    else:
        yield path, data


def _booleans(read: object, written: object, path: DocPath) -> Iterator[tuple[DocPath, bool]]:
    """What was written as true or false and read as a number, which it would count as, with the way to it."""
    if isinstance(written, bool) and isinstance(read, int | float) and not isinstance(read, bool):
        yield path, written
    if isinstance(read, BaseModel) and isinstance(written, Mapping):
        for name, field in type(read).model_fields.items():
            for key in {name, field.alias or name} & written.keys():
                yield from _booleans(getattr(read, name), written[key], (*path, key))
    if isinstance(read, tuple | list) and isinstance(written, list):
        for index, (one, said) in enumerate(zip(read, written, strict=False)):
            yield from _booleans(one, said, (*path, index))
