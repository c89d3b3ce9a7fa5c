"""Recipes whose plans have steps that no config can ask for, which read matrices beside their inputs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from fixture_types import Cli, WritePlugin
from safetensors.torch import load_file, save_file

import mergecore
from mergecore.errors import InputError
from mergecore.output.manifest import identity
from mergecore.plugins.registry import Registry
from mergecore.types import MovedRows, Plan, Recipe

# The output of `looked: [a, b]` is `small` of a; to each of its rows is added the sum of what the step reads of b:
# `tall`, row 2, nothing, and row 0.
PLUGIN = """
import numpy as np
from mergecore import MergeMethod, Params, Recipe, hookimpl
from mergecore.types import MovedRows, OutputTensor, RowSource, Step, TensorInfo, TensorInput

class Nothing(Params):
    pass

def look(group, params):
    [extra] = group.matrices
    assert extra.known.tolist() == [True, False, True], extra.known
    assert extra.shape == (3, 5)
    whole = extra.whole()
    assert whole.dtype == extra.dtype
    total = extra.read(0, 2).sum() + extra.read(2, 3).sum()
    if total > 1000:
        raise ValueError("too much")
    return group.map(lambda block: block.x[0] + total)

def holds(step):
    return 7_000_000, 5_000_000

METHOD = MergeMethod(name="look", merge=look, params=Nothing, models=(1, 1), extra_memory=holds)

def compile(document, planner):
    models = [planner.open(one, ("looked", i)) for i, one in enumerate(document.data["looked"])]
    small, tall = models[0].tensors["small"], models[1].tensors["tall"]
    rows = np.array([2, -1, 0])
    moved = MovedRows(0, 3, 3, (RowSource(1, tall, rows),))
    extra = TensorInput(1, TensorInfo("tall", moved))
    made = OutputTensor("small", small.dtype, small.shape)
    step = Step((made,), (TensorInput(0, small),), "look", Nothing(), matrices=(extra,))
    return planner.plan(models, [step], planner.side_files(models, [step]))

@hookimpl
def mergecore_recipes():
    yield Recipe(name="looked", accepts=lambda data: "looked" in data, compile=compile, methods=(METHOD,))
"""


@pytest.fixture
def plan(write_plugin: WritePlugin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
    write_plugin("looking", PLUGIN)
    monkeypatch.chdir(tmp_path)
    write(torch.arange(15.0).view(3, 5))
    return planned()


def write(tall: torch.Tensor) -> None:
    for name, tensors in {"a": {"small": torch.zeros(2, 3)}, "b": {"tall": tall}}.items():
        Path(name).mkdir(exist_ok=True)
        Path(name, "config.json").write_text(json.dumps({"model_type": "llama"}))
        save_file(tensors, Path(name, "model.safetensors"))


def planned() -> Plan:
    return mergecore.plan({"looked": ["./a", "./b"]}, registry=Registry.discover())


def test_a_method_of_a_recipe_reads_matrices_of_any_shape(plan: Plan) -> None:
    made = load_file(mergecore.execute(plan, "out") / "model.safetensors")["small"]
    assert made.tolist() == [[70.0] * 3] * 2  # 10 + … + 14 and 0 + … + 4


def test_no_config_can_name_it(plan: Plan, cli: Cli) -> None:
    Path("c.yml").write_text("merge_method: look\nmodels: [{model: ./a}]\n")
    assert "error E606" in cli("plan", "c.yml").err


def test_a_plan_shows_what_is_looked_at(plan: Plan, cli: Cli) -> None:
    Path("d.yml").write_text("looked: [./a, ./b]\n")
    done = cli("plan", "d.yml", "--tensor", "small")
    assert "  looks at ./b: tall F32, rows: 2 own, 1 zero" in done.out, done.err
    facts = json.loads(cli("plan", "d.yml", "--json").out)
    assert facts["tensors"][0]["matrices"] == ["./b: tall F32, rows: 2 own, 1 zero"]
    more = json.loads(cli("plan", "d.yml", "--json", "-j", "3").out)["peak_memory"]
    one = json.loads(cli("plan", "d.yml", "--json", "-j", "1").out)["peak_memory"]
    assert 10_000_000 <= more - one < 11_000_000
    assert cli("merge", "d.yml", "out", "--max-memory", "235MB").code == 5


def test_what_it_raises_is_blamed_on_the_plugin_of_the_recipe(plan: Plan, cli: Cli) -> None:
    write(torch.full((3, 5), 900.0))
    Path("d.yml").write_text("looked: [./a, ./b]\n")
    told = cli("merge", "d.yml", "out").err
    assert "error E604: method 'look' of plugin 'looking' (looking 1.0) failed on tensor 'small'" in told


def test_what_is_not_finite_is_blamed_on_the_model(plan: Plan) -> None:
    write(torch.full((3, 5), float("inf")))
    with pytest.raises(InputError, match=r"\./b: tensor 'tall': \d+ values are not finite") as caught:
        mergecore.execute(planned(), "out")
    assert caught.value.code == "E234"


def test_the_rows_that_are_looked_at_are_part_of_the_identity(plan: Plan) -> None:
    digest = identity(plan)["made_of_sha256"]
    data = plan.steps[0].matrices[0].tensor.data
    assert isinstance(data, MovedRows)
    data.sources[0].rows[1] = 1
    assert identity(plan)["made_of_sha256"] != digest


def test_recipes_bring_their_methods(plan: Plan) -> None:
    assert [one.name for one in Registry.discover().get(Recipe, "looked").methods] == ["look"]
