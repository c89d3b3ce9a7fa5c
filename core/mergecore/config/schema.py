"""The JSON schema of merge configs, by which editors complete and check what is written.

`schema` takes the grammar from the classes of `config`, and adds one branch for each merge method that says
which `parameters` may stand where.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, cast

from mergecore.config.grammar import MergeConfig
from mergecore.config.parameters import Parameter, parameters_of, setting_schema
from mergecore.types import Json, MergeMethod

_DRAFT = "https://json-schema.org/draft/2020-12/schema"


def schema(methods: Iterable[MergeMethod[Any]]) -> dict[str, Json]:
    """The JSON schema (draft 2020-12) of a config that uses one of `methods`."""
    methods = sorted(methods, key=lambda method: method.name)
    grammar = cast("dict[str, Json]", MergeConfig.model_json_schema())
    properties = cast("dict[str, Json]", grammar["properties"])
    names: list[Json] = [method.name for method in methods]
    properties["merge_method"] = {"enum": names, "description": "how the models are made into one"}
    needs: list[Json] = [{"required": [key]} for key in ("models", "slices", "modules")]
    branches: list[Json] = [_branch(method.name, parameters_of(method.params)) for method in methods]
    return {"$schema": _DRAFT, **grammar, "oneOf": needs, "allOf": branches}


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
