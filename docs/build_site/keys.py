"""Every key that a config can have, from the JSON schema that `mergecore schema` prints."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from build_site.tables import cell, table
from mergecore import Registry
from mergecore.config.schema import recipe_schema, schema
from mergecore.types import MergeMethod, Recipe, SideFile

TITLES = {"MergeConfig": "A merge"}


def page(registry: Registry) -> str:
    """A section for each mapping that a config can hold."""
    parts = [
        "# Every key",
        "This page is made from the code, and so it is complete. [The merge config](config.md) explains the keys. "
        "Parameters of methods are on [their pages](methods.md).",
        *sections(schema(registry.all(MergeMethod), files=registry.all(SideFile)), "A merge"),
    ]
    for recipe in sorted(registry.all(Recipe), key=lambda one: one.name):
        found = recipe_schema(recipe, files=registry.all(SideFile))
        parts += sections(found, f"A document of the recipe {recipe.name}", recipe.name)
    return "\n\n".join(parts) + "\n"


def sections(found: Mapping[str, Any], title: str, of: str = "") -> Iterator[str]:
    """The mapping itself, then those inside it."""
    yield f"## {title}"
    yield keys(found)
    for name, inner in found.get("$defs", {}).items():
        if inner.get("properties"):
            where = f" in {of}" if of else ""
            yield f"### {words(name)}{where}"
            yield cell(inner.get("description", ""))
            yield keys(inner)


def words(name: str) -> str:
    """`ModelConfig` as `model`."""
    bare = name.removesuffix("Config")
    return "".join(f" {one.lower()}" if one.isupper() else one for one in bare).strip()


def keys(found: Mapping[str, Any]) -> str:
    needed = found.get("required", [])
    rows = []
    for name, one in found["properties"].items():
        value = one.get("default")
        default = "required" if name in needed else "" if value is None else f"`{json.dumps(value)}`"
        rows.append([f"`{name}`", cell(one.get("description", "")), cell(kind(one)), default])
    return table(["key", "meaning", "value", "default"], rows)


def kind(one: Mapping[str, Any]) -> str:
    """The type of a value in words."""
    if "anyOf" in one or "oneOf" in one:
        kinds = [kind(choice) for choice in one.get("anyOf", one.get("oneOf", []))]
        return " or ".join(dict.fromkeys(text for text in kinds if text not in ("null", "")))
    if "$ref" in one:
        return words(one["$ref"].rpartition("/")[2])
    if "enum" in one:
        return "a name" if len(one["enum"]) > 8 else " or ".join(str(choice) for choice in one["enum"])
    if "const" in one:
        return str(one["const"])
    said = one.get("type", "")
    if isinstance(said, list):
        return " or ".join(str(NAMES.get(each, each)) for each in said if each != "null")
    if said == "array" and "items" in one:
        return f"list of {kind(one['items'])}".removesuffix(" of ")
    return str(NAMES.get(said, said))


NAMES = {
    "object": "mapping",
    "string": "text",
    "boolean": "true or false",
    "array": "list",
    "integer": "whole number",
}
