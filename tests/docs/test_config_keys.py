"""The page of the config has every key of documents that are no merge configs, as their schema has it."""

from __future__ import annotations

import json
import re
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
