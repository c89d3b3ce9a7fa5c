"""The page of the config has every key of documents that are no merge configs, as their schema has it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fixture_types import Cli

PAGE = Path(__file__).parents[2] / "docs/reference/config.md"
COMMON = {"name", "recipe", "seed", "output", "executor", "side_files"}
ELSEWHERE = {"dtype", "out_dtype", "tokenizer_source", "chat_template"}
"""Keys of a shuffle that the page names in a sentence."""


@pytest.mark.parametrize(
    ("recipe", "part", "head"),
    [
        ("moe", "", "### Mixtures of experts"),
        ("moe", "Expert", "Each of the `experts` and `shared_experts`:"),
        ("pick_experts", "Pick", "### Choices of experts"),
        ("layershuffle", "Shuffle", "### Shuffles of layers"),
        ("layershuffle", "Shuffled", "Each of the `models`:"),
    ],
)
def test_the_tables_are_those_of_the_schema(cli: Cli, recipe: str, part: str, head: str) -> None:
    schema: dict[str, Any] = json.loads(cli("schema", recipe).out)
    keys = (schema["$defs"][part] if part else schema)["properties"]
    wanted = {
        key: (one["description"], json.dumps(one.get("default")).strip('"').replace("null", ""))
        for key, one in keys.items()
        if part or key not in COMMON
    }
    table = PAGE.read_text().split(f"{head}\n")[1].split("| --- | --- | --- |\n")[1].split("\n\n")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.strip().splitlines()]
    assert {key.strip("`"): (meaning, default) for key, meaning, default in rows} == {
        key: (meaning, re.sub(r"\.0$", "", default)) for key, (meaning, default) in wanted.items()
    }


def test_what_beside_a_shuffle_may_stand_is_named(cli: Cli) -> None:
    schema = json.loads(cli("schema", "layershuffle").out)
    assert schema["properties"].keys() - COMMON - {"layershuffle"} == ELSEWHERE
    told = PAGE.read_text().split("### Shuffles of layers")[1].split("|")[0]
    assert set(re.findall(r"`(\w+)`", told)) == ELSEWHERE | {"layershuffle"}


def meanings(schema: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, bool]]:
    """Every key that a document may hold, and whether the schema says what it means.

    Branches, which say what holds for one method or plugin, repeat keys only to lead to those that are theirs.
    """
    if isinstance(schema, list):
        for one in schema:
            yield from meanings(one, path)
    if not isinstance(schema, dict) or path[-1:] == ("if",):
        return
    leads = "then" in path and path[-1] != "parameters" and path[-2:-1] != ("tokenizer",)
    for key, one in schema.get("properties", {}).items():
        if one is not True and not leads:
            yield "/".join((*path, key)), "description" in one
    for key, one in schema.items():
        if key == "properties":
            for name, inner in one.items():
                yield from meanings(inner, (*path, name))
        else:
            yield from meanings(one, (*path, key) if isinstance(one, dict) else path)


def test_the_schema_says_what_every_key_means(cli: Cli) -> None:
    listed = json.loads(cli("plugins", "list", "--json").out)
    recipes = [value["name"] for one in listed for value in one["values"] if value["kind"] == "recipe"]
    assert len(recipes) > 4
    found = {recipe: list(meanings(json.loads(cli("schema", recipe).out))) for recipe in recipes}
    found["a merge"] = list(meanings(json.loads(cli("schema").out)))
    assert len(found["a merge"]) > 500
    silent = {name: [key for key, said in keys if not said] for name, keys in found.items()}
    assert silent == {name: [] for name in found}


def test_a_key_without_a_meaning_is_found() -> None:
    odd = {"properties": {"a": {"type": "object", "properties": {"b": {}}}, "c": {"description": "it"}}}
    assert list(meanings(odd)) == [("a", False), ("c", True), ("a/b", False)]
