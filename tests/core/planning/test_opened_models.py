"""A recipe that compiles a merge config of models that it has opened and changed itself."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from fixture_types import WritePlugin
from tiny import read_tensors, write_llama

import mergecore
from mergecore.errors import InputError

# `doubled: [a, b]` is the average of both, whose embeddings are exchanged before; documents call them x and y, which
# is the name of a folder, too.
PLUGIN = """
from dataclasses import replace
from mergecore import Recipe, hookimpl

TABLE = "model.embed_tokens.weight"

def compile(document, planner):
    x, y = [planner.open(one, ("exchanged", i)) for i, one in enumerate(document.data["exchanged"])]
    tables = x.tensors[TABLE], y.tensors[TABLE]
    models = {
        "x": replace(x, tensors={**x.tensors, TABLE: tables[1]}),
        "y": replace(y, tensors={**y.tensors, TABLE: tables[0]}),
    }
    listed = [{"model": name, "parameters": {"weight": 1}} for name in document.data.get("names", "xy")]
    inner = {"merge_method": "linear", "models": listed, "include": ["embed_tokens"]}
    return planner.compile(inner, models)

@hookimpl
def mergecore_recipes():
    yield Recipe(name="exchanged", accepts=lambda data: "exchanged" in data, compile=compile)
"""


@pytest.fixture(autouse=True)
def here(write_plugin: WritePlugin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_plugin("exchanging", PLUGIN)
    monkeypatch.chdir(tmp_path)
    for name, value in (("a", 1.0), ("b", 2.0), ("y", 5.0)):
        write_llama(Path(name), 2, value)


def test_documents_call_opened_models_by_their_names() -> None:
    """The average of both tables; all else is that of x, which was opened as a."""
    made = read_tensors(mergecore.merge({"exchanged": ["a", "b"]}, "out"))
    assert torch.equal(made["model.embed_tokens.weight"], torch.full((8, 4), 1.5))
    assert torch.equal(made["model.norm.weight"], torch.ones(4))


def test_other_names_are_those_of_folders() -> None:
    made = read_tensors(mergecore.merge({"exchanged": ["a", "b"], "names": ["x", "b"]}, "out"))
    assert torch.equal(made["model.embed_tokens.weight"], torch.full((8, 4), 2.0))


def test_a_name_that_is_none_of_them_is_told() -> None:
    with pytest.raises(InputError, match="'z'") as caught:
        mergecore.plan({"exchanged": ["a", "b"], "names": ["x", "z"]})
    assert caught.value.code == "E701"
