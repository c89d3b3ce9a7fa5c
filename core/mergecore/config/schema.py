"""The JSON schema of merge configs, by which editors complete and check what is written.

`schema` takes the grammar from the classes of `config`, and adds one branch for each merge method that says
which `parameters` may stand where, and one for each other plugin that a config can choose.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias, cast

from mergecore.config.chosen import ALL_TOKENS, EXECUTOR, WRITER
from mergecore.config.documents import whole
from mergecore.config.grammar import SECTIONS, MergeConfig
from mergecore.config.parameters.declared import Parameter, parameters_of, setting_schema, value_schema
from mergecore.types import Executor, Json, MergeMethod, OutputWriter, Recipe, SideFile, TokenizerStrategy
from mergecore.types.params import NoParams

_DRAFT = "https://json-schema.org/draft/2020-12/schema"


Choosable: TypeAlias = TokenizerStrategy[Any] | OutputWriter[Any] | Executor[Any]


def schema(
    methods: Iterable[MergeMethod[Any]],
    chosen: Iterable[Choosable] = (),
    files: Iterable[SideFile[Any]] = (),
) -> dict[str, Json]:
    """The JSON schema (draft 2020-12) of a config that uses one of `methods`, and any of `chosen` and `files`.

    Without `chosen`, nothing is said about parameters of tokenizer strategies, output writers and executors.
    """
    methods = sorted(methods, key=lambda method: method.name)
    grammar = cast("dict[str, Json]", MergeConfig.model_json_schema())
    properties = cast("dict[str, Json]", grammar["properties"])
    names: list[Json] = [method.name for method in methods]
    with_distribution: Json = {"pattern": rf"^({'|'.join(re.escape(one.name) for one in methods)})@."}
    properties["merge_method"] = {
        "anyOf": [{"enum": names}, with_distribution],
        "description": "how the models are made into one",
    }
    needs: list[Json] = [{"required": [key]} for key in ("models", "slices", "modules")]
    branches: list[Json] = [_branch(method.name, parameters_of(method.params)) for method in methods]
    _add_side_files(grammar, files)
    return {"$schema": _DRAFT, **grammar, "oneOf": needs, "allOf": [*branches, *map(_choice, chosen)]}


def recipe_schema(
    recipe: Recipe, chosen: Iterable[Choosable] = (), files: Iterable[SideFile[Any]] = ()
) -> dict[str, Json]:
    """The JSON schema of the documents of a recipe; of one that declares nothing, what every document may say."""
    schema = recipe.schema or NoParams
    declared = whole(schema if isinstance(schema, type) else schema(), recipe.name)
    grammar = cast("dict[str, Json]", declared.model_json_schema())
    if recipe.schema is None:
        grammar["additionalProperties"] = True
    _add_side_files(grammar, files)
    return {"$schema": _DRAFT, **grammar, "title": recipe.name, "allOf": [*map(_choice, chosen)]}


def any_schema(config: Mapping[str, Json], recipes: Iterable[Mapping[str, Json]]) -> dict[str, Json]:
    """The JSON schema of a document of any kind: a file of several documents may hold each of them.

    config: the schema of a merge config, which has a `merge_method`.  recipes: those of other documents.
    """
    definitions: dict[str, Json] = {}
    merge = _embedded(config, "merge", definitions)
    others = [_embedded(one, str(one["title"]), definitions) for one in recipes]
    return {
        "$schema": _DRAFT,
        "title": "a document",
        "type": "object",
        "if": {"required": ["merge_method"]},
        "then": merge,
        "else": {"anyOf": [*others]},
        "$defs": definitions,
    }


def _embedded(schema: Mapping[str, Json], name: str, definitions: dict[str, Json]) -> Json:
    """A schema as a part of another one, whose `definitions` take its own, under the `name` of the part."""
    prefix = f"#/$defs/{name}."

    def moved(value: Json) -> Json:
        if isinstance(value, list):
            return [moved(one) for one in value]
        if not isinstance(value, dict):
            return value
        return {
            key: one.replace("#/$defs/", prefix) if key == "$ref" and isinstance(one, str) else moved(one)
            for key, one in value.items()
        }

    own = schema.get("$defs")
    definitions |= {
        f"{name}.{key}": moved(one) for key, one in (own if isinstance(own, dict) else {}).items()
    }
    return {key: moved(one) for key, one in schema.items() if key not in ("$schema", "$defs")}


def _choice(one: Choosable) -> Json:
    """What a section may hold when it chooses this plugin."""
    section, is_chosen = _chooses(one)
    own: dict[str, Json] = dict.fromkeys(SECTIONS[section], True)
    parameters = {name: value_schema(parameter) for name, parameter in parameters_of(one.params).items()}
    filled: Json = {
        "properties": {
            **own,
            **{name: _or_null(known) for name, known in parameters.items()},
        },
        "additionalProperties": False,
    }
    return {
        "if": {"properties": {section: {"type": "object", **is_chosen}}, "required": [section]},
        "then": {"properties": {section: filled}},
    }


def _add_side_files(grammar: dict[str, Json], files: Iterable[SideFile[Any]]) -> None:
    section = cast("dict[str, Any]", grammar["properties"])["side_files"]
    section["properties"] = {one.name: _of_side_file(one) for one in files if one.chosen_by == "side_files"}


def _of_side_file(one: SideFile[Any]) -> Json:
    """What a config may say about a side file."""
    known: dict[str, Json] = {
        name: _or_null(value_schema(parameter)) for name, parameter in parameters_of(one.params).items()
    }
    kinds: list[Json] = ["boolean", "object", "null"]
    said: dict[str, Json] = {"description": one.summary} if one.summary else {}
    return {"type": kinds, **said, "properties": known, "additionalProperties": False}


def _or_null(known: dict[str, Json]) -> Json:
    """A schema that null fits, too; what it describes is said outside."""
    said: dict[str, Json] = {"description": known["description"]} if "description" in known else {}
    inner: dict[str, Json] = {key: one for key, one in known.items() if key != "description"}
    return {"anyOf": [inner, {"type": "null"}], **said}


def _chooses(one: Choosable) -> tuple[str, dict[str, Json]]:
    """The section of the config that a plugin can be chosen in, and what it looks like then."""
    if isinstance(one, TokenizerStrategy):
        unnamed: Json = {"not": {"required": ["strategy"], "properties": {"strategy": {"type": "string"}}}}
        ways: list[Json] = [{"properties": {"strategy": {"const": one.name}}, "required": ["strategy"]}]
        if one.source != "required":
            by_source: Json = {"properties": {"source": {"const": one.name}}, "required": ["source"]}
            ways.append({"allOf": [unnamed, by_source]})
        if one.name == ALL_TOKENS:
            ways.append({"allOf": [unnamed, {"not": {"required": ["source"]}}]})
        return "tokenizer", {"anyOf": ways}
    section, key, default = (
        ("output", "writer", WRITER) if isinstance(one, OutputWriter) else ("executor", "name", EXECUTOR)
    )
    required: list[Json] = [] if one.name == default else [key]
    return section, {"properties": {key: {"const": one.name}}, "required": required}


def _branch(name: str, parameters: Mapping[str, Parameter]) -> Json:
    """What holds when `name` is the method."""
    everywhere: Json = _mapping(parameters)
    of_one: Json = _mapping({key: value for key, value in parameters.items() if value.per_model})
    entries: Json = {"type": ["array", "null"], "items": {"properties": {"parameters": of_one}}}
    slices: Json = {
        "type": ["array", "null"],
        "items": {"properties": {"parameters": everywhere, "sources": entries}},
    }
    inner: dict[str, Json] = {"parameters": everywhere, "models": entries, "slices": slices}
    modules: Json = {"type": ["object", "null"], "additionalProperties": {"properties": inner}}
    return {
        "if": {"properties": {"merge_method": {"const": name}}, "required": ["merge_method"]},
        "then": {"properties": {**inner, "modules": modules}},
    }


def _mapping(parameters: Mapping[str, Parameter]) -> Json:
    return {
        "type": ["object", "null"],
        "properties": {name: setting_schema(parameter) for name, parameter in parameters.items()},
        "additionalProperties": False,
    }
