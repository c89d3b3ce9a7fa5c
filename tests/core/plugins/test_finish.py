"""What a recipe says of its output once the tensors are there, and what it asks of models and random numbers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from fixture_types import Cli, WritePlugin
from safetensors.torch import load_file
from tiny import llama, llama_config, registry, write_checkpoint

import mergecore

CODE = """
from mergecore import MergeMethod, NoParams, Recipe, hookimpl
from mergecore.types import Finished, OutputTensor, SideFiles, Step, TensorInput

def draw(group, params):
    return (group.uniform(6, "x").reshape(2, 3), group.uniform(3, "y"))

def compile(document, planner):
    model = planner.open("./m")
    made = (OutputTensor("x", "F32", (2, 3)), OutputTensor("y", "F32", (3,)))
    norm = TensorInput(0, model.tensors["model.norm.weight"])
    return planner.plan([model], [Step(made, (norm,), "draw", NoParams())], SideFiles({"note.txt": b"before"}))

def finish(plan, read):
    RAISE
    return Finished({"note.txt": repr(read("x").tolist()).encode()}, {"sum": float(read("y").sum())})

@hookimpl
def mergecore_recipes():
    method = MergeMethod(name="draw", merge=draw, params=NoParams)
    yield Recipe(name="draws", accepts=lambda data: "draws" in data, compile=compile, methods=(method,), finish=finish)
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_checkpoint(Path("m"), llama(1), llama_config(1))
    Path("c.yml").write_text("draws: true\nseed: 5\n")


def test_a_recipe_completes_card_and_manifest_by_the_tensors(write_plugin: WritePlugin, cli: Cli) -> None:
    write_plugin("draws", CODE.replace("RAISE", ""))
    outcome = cli("merge", "c.yml", "out")
    assert outcome.code == 0, outcome.err
    made = load_file("out/model.safetensors")
    assert Path("out/note.txt").read_text() == repr(made["x"].tolist())
    facts = json.loads(Path("out/mergecore-manifest.json").read_text())["facts"]
    assert facts == {"sum": float(made["y"].sum())}
    assert cli("verify", "out").code == 0
    assert ((made["x"] >= 0) & (made["x"] < 1)).all()
    assert len({*made["x"].view(-1).tolist(), *made["y"].tolist()}) == 9
    assert cli("merge", "c.yml", "again", "--seed", "6").code == 0
    assert not torch.equal(load_file("again/model.safetensors")["x"], made["x"])


def test_a_recipe_that_fails_then_is_named_and_nothing_is_published(
    write_plugin: WritePlugin, cli: Cli
) -> None:
    write_plugin("draws", CODE.replace("RAISE", "1 / 0"))
    outcome = cli("merge", "c.yml", "out")
    assert outcome.code == 7
    assert "draws" in outcome.err
    assert not Path("out").exists()


def test_the_modules_of_a_model_as_its_loader_has_them() -> None:
    planner = mergecore.planner(registry=registry())
    loaded = planner.loaded(planner.open("./m"))
    kinds = {name: one.kind for name, one in loaded.modules.items()}
    assert kinds["model.embed_tokens"] == "embedding"
    assert kinds["lm_head"] == kinds["model.layers.0.mlp.up_proj"] == "linear"
    assert kinds["model.norm"] == "other"
    assert loaded.tensors.keys() == llama(1).keys()
    write_checkpoint(Path("n"), llama(1), {"model_type": "unheard-of"})
    by_names = planner.loaded(planner.open("./n"))
    assert {name: one.kind for name, one in by_names.modules.items()} == kinds
