"""What a planner gives recipes, by a recipe that builds a mixture of experts and one whose steps are wrong."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from fixture_types import Cli, WritePlugin
from tiny import llama, read_tensors, write_llama
from transformers import AutoModelForCausalLM

EXPERTS = """
from collections.abc import Iterator

import numpy as np

from mergecore import (
    Document,
    Field,
    MergeMethod,
    NoParams,
    Params,
    Plan,
    Planner,
    Recipe,
    TensorGroup,
    hookimpl,
)
from mergecore.types import Json, Merged, MovedRows, OutputTensor, RowSource, Step, TensorInfo, TensorInput

NAMES = {"gate": "w1", "down": "w2", "up": "w3"}


class Experts(Params):
    mixture: tuple[str, ...] = Field(min_length=2, description="the models; the first gives all the rest")


def accepts(document):
    return "mixture" in document


def drawn(group: TensorGroup, params: NoParams) -> Merged:
    return group.map(lambda block: block.uniform(0) - 0.5)


def compile_experts(document: Document, planner: Planner) -> Plan:
    wanted = planner.read_document(Experts).mixture
    models = [planner.open(one, ("mixture", i)) for i, one in enumerate(wanted)]
    steps = []
    for name, tensor in models[0].tensors.items():
        layer, inside, part = name.partition("mlp.")
        for i, model in enumerate(models if inside else models[:1]):
            new = (
                f"{layer}block_sparse_moe.experts.{i}.{NAMES[part.split('_')[0]]}.weight" if inside else name
            )
            made = OutputTensor(new, tensor.dtype, tensor.shape)
            steps.append(Step((made,), (TensorInput(i, model.tensors[name]),)))
        if part == "gate_proj.weight":  # (inner, hidden), of which the router (experts, hidden) has no row
            rows = MovedRows(0, len(models), len(models), (RowSource(0, tensor, np.full(len(models), -1)),))
            one, gate = TensorInput(0, TensorInfo(name, rows)), f"{layer}block_sparse_moe.gate.weight"
            made = OutputTensor(gate, tensor.dtype, one.shape)
            steps.append(Step((made,), (one,), "drawn", NoParams()))
    edits: dict[str, Json] = {"architectures": ["MixtralForCausalLM"], "model_type": "mixtral"}
    edits |= {"num_local_experts": len(models), "num_experts_per_tok": 2}
    card: dict[str, Json] = {"base_model_relation": "moe"}
    unused = {i: "only its feed-forward layers are experts" for i in range(1, len(models))}
    files = planner.side_files(models, steps, config=edits, card=card)
    return planner.plan(models, steps, files, unused=unused)


METHOD = MergeMethod(name="drawn", merge=drawn, params=NoParams, models=(1, 1))


@hookimpl
def mergecore_recipes() -> Iterator[Recipe]:
    yield Recipe(name="experts", accepts=accepts, compile=compile_experts, methods=(METHOD,), schema=Experts)
"""


def refusal_of(cli: Cli, document: str, *options: str) -> list[str]:
    Path("config.yml").write_text(document)
    outcome = cli("plan", "config.yml", *options)
    assert outcome.code
    return [line.removeprefix("mergecore: error ") for line in outcome.err.splitlines()]


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


# ---- a recipe with a method, a config and a card of its own ------------------------------------------------


def logits(folder: str) -> torch.Tensor:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, experts_implementation="eager")
    with torch.no_grad():
        logits: torch.Tensor = model(torch.tensor([[1, 5, 2, 7, 0]])).logits
    return logits


def test_a_mixture_of_a_model_with_itself_says_what_the_model_says(
    write_plugin: WritePlugin, cli: Cli
) -> None:
    write_plugin("experts", EXPERTS)
    write_llama(Path("a"), 2, seed=1)
    Path("a/tokenizer_config.json").write_text('{"name": "a"}')
    Path("config.yml").write_text("mixture: [./a, ./a]\nname: twice\nseed: 3\n")
    outcome = cli("merge", "config.yml", "out")
    assert outcome.code == 0, outcome.err
    made = read_tensors(Path("out"))
    router = made["model.layers.0.block_sparse_moe.gate.weight"]
    assert router.shape == (2, 4)
    assert router.abs().max() <= 0.5
    assert len(set(router.flatten().tolist())) == 8  # drawn
    assert torch.equal(logits("a").argmax(-1), logits("out").argmax(-1))
    torch.testing.assert_close(logits("a"), logits("out"), rtol=1e-4, atol=1e-5)
    config = json.loads(Path("out/config.json").read_text())
    assert config == {
        **json.loads(Path("a/config.json").read_text()),
        "architectures": ["MixtralForCausalLM"],
        "model_type": "mixtral",
        "num_local_experts": 2,
        "num_experts_per_tok": 2,
    }
    assert Path("out/tokenizer_config.json").read_bytes() == b'{"name": "a"}'
    card = Path("out/README.md").read_text()
    assert "# twice" in card
    assert "base_model_relation: moe" in card
    manifest = json.loads(Path("out/mergecore-manifest.json").read_text())
    assert manifest["seed"] == 3
    assert manifest["plugins"] == {
        "experts": "experts 1.0",
        "safetensors": manifest["plugins"]["safetensors"],
    }
    assert cli("verify", "out").code == 0


def test_experts_are_the_weights_of_their_models_and_what_is_left_is_listed(
    write_plugin: WritePlugin, cli: Cli
) -> None:
    write_plugin("experts", EXPERTS)
    for seed, name in enumerate("ab"):
        write_llama(Path(name), 1, seed=seed)
    Path("config.yml").write_text("mixture: [./a, ./b]\noutput: {shard_size: 0.5KB}\n")
    assert cli("merge", "config.yml", "out").code == 0
    assert len(list(Path("out").glob("*.safetensors"))) > 1
    made, b = read_tensors(Path("out")), llama(1, seed=1)
    for old, new in (("gate", "w1"), ("down", "w2"), ("up", "w3")):
        expert = made[f"model.layers.0.block_sparse_moe.experts.1.{new}.weight"]
        assert torch.equal(expert, b[f"model.layers.0.mlp.{old}_proj.weight"])
    [left] = json.loads(Path("out/mergecore-manifest.json").read_text())["dropped"]
    assert (left["model"], left["reason"]) == ("./b", "only its feed-forward layers are experts")
    assert set(left["names"]) == {name for name in b if ".mlp." not in name}


# ---- a recipe that writes no model -------------------------------------------------------------------------

NORMS = """
from mergecore import Recipe, hookimpl
from mergecore.types import PluginChoice, OutputTensor, Step, TensorInput

def compile(document, planner):
    model = planner.open(document.data["norms"])
    norms = [one for name, one in model.tensors.items() if "norm" in name]
    steps = [Step((OutputTensor(f"only.{one.name}", one.dtype, one.shape),), (TensorInput(0, one),)) for one in norms]
    files = planner.side_files(
        [model], steps, CONFIG, keep=lambda name: name != "generation_config.json",
        more={"adapter_config.json": b'{"base": "/home/me/a"}'}, card={"library_name": "peft", "from": "/home/me/a"},
        made_by="taking norms",
    )
    output = PluginChoice("safetensors", {"stem": "adapter_model"})
    return planner.plan([model], steps, files, output=output, warnings=["only norms"])

@hookimpl
def mergecore_recipes():
    yield Recipe(name="norms", accepts=lambda data: "norms" in data, compile=compile)
"""


@pytest.mark.parametrize(
    ("config", "written"),
    [
        ("config=None", None),
        (
            "config={'model_type': 'norms', 'hidden_size': None}",
            {"model_type": "norms", "intermediate_size": 6},
        ),
        ("config=lambda whole: {'had': len(whole) > 5}", {"had": True}),
    ],
)
def test_a_recipe_has_its_own_writer_files_config_and_card(
    write_plugin: WritePlugin, cli: Cli, config: str, written: dict[str, object] | None
) -> None:
    write_plugin("norms", NORMS.replace("CONFIG", config))
    write_llama(Path("a"), 1, seed=1)
    for name in ("tokenizer_config.json", "generation_config.json", "LICENSE"):
        (Path("a") / name).write_text("{}")
    Path("config.yml").write_text("norms: ./a\n")
    outcome = cli("merge", "config.yml", "out", "--missing", "skip", "--allow-crimes")
    assert outcome.code == 0, outcome.err
    assert "only norms" in outcome.err
    for option in ("--missing", "--allow-crimes"):
        assert f"{option} has no effect on a document of the recipe 'norms'" in outcome.err
    assert "command_line" not in Path("out/mergecore-manifest.json").read_text()
    stored = llama(1, seed=1)
    made = read_tensors(Path("out"))
    assert made.keys() == {f"only.{name}" for name in stored if "norm" in name}
    assert all(torch.equal(one, stored[name.removeprefix("only.")]) for name, one in made.items())
    files = {path.name for path in Path("out").iterdir()}
    expected = {"adapter_model.safetensors", "adapter_config.json", "README.md", "mergecore-manifest.json"}
    assert files == expected | {"tokenizer_config.json", "LICENSE"} | ({"config.json"} if written else set())
    assert json.loads(Path("out/adapter_config.json").read_text()) == {"base": "a"}
    card = Path("out/README.md").read_text()
    assert "library_name: peft\n" in card
    assert "from: a\n" in card
    assert "by the method `taking norms` from" in card
    if written:
        found = json.loads(Path("out/config.json").read_text())
        assert {key: found.get(key) for key in written} == written
        assert "hidden_size" not in found
    left = json.loads(Path("out/mergecore-manifest.json").read_text())["dropped"]
    assert [(one["reason"], len(one["names"])) for one in left] == [
        ("the recipe does not use it", len(stored) - len(made))
    ]


# ---- what is wrong with a document -------------------------------------------------------------------------


PAIRS = """
from mergecore import Params, PerModel, Recipe, hookimpl

class Pairs(Params):
    pairs: int
    left: PerModel[int]
    right: PerModel[int]

def compile(document, planner):
    planner.read_document(Pairs)

@hookimpl
def mergecore_recipes():
    yield Recipe(name="pairs", accepts=lambda data: "pairs" in data, compile=compile, schema=Pairs)
"""


def test_what_is_wrong_with_the_document_of_a_recipe_is_said_with_its_place(
    write_plugin: WritePlugin, cli: Cli
) -> None:
    write_plugin("experts", EXPERTS)
    assert refusal_of(cli, "mixture: ./a\nsede: 1\noutput: {writer: safetensors, shard_szie: 1GB}\n") == [
        "E109: config.yml:3:31: the output writer 'safetensors' has no parameter 'shard_szie'; "
        "did you mean 'shard_size'?",
        "E104: config.yml:1:10: 'mixture' is './a'; a list is expected",
        "E103: config.yml:2:1: unknown key 'sede' in a document of the recipe 'experts'; did you mean 'seed'?",
    ]
    assert refusal_of(cli, "mixture: [./a]\n") == [
        "E105: config.yml:1:10: 'mixture' is ['./a']; a list of at least 2 items is expected"
    ]
    assert refusal_of(cli, "mixture: [./nope, ./nope]\n")[0].startswith(
        "E701: config.yml:1:11: './nope': no such directory"
    )
    write_plugin("pairs", PAIRS)
    assert refusal_of(cli, "pairs: 1\nleft: [1, 2]\nright: [3, 4, 5]\n") == [
        "E104: config.yml:1:1: 'left' has 2 values where another parameter has 3"
    ]


def test_the_schema_of_a_recipe_has_what_it_declares_and_what_every_document_may_say(
    write_plugin: WritePlugin, cli: Cli
) -> None:
    write_plugin("experts", EXPERTS)
    tree = json.loads(cli("schema", "experts").out)
    assert set(tree["properties"]) == {
        "mixture", "name", "recipe", "seed", "output", "executor", "side_files",
    }  # fmt: skip
    assert tree["required"] == ["mixture"]
    assert tree["properties"]["mixture"]["description"] == "the models; the first gives all the rest"
    assert "transplant" in json.loads(cli("schema", "transplant").out)["properties"]
    assert cli("schema", "exprets").err.startswith("mergecore: error E108: ")


def test_one_schema_is_for_documents_of_any_kind(write_plugin: WritePlugin, cli: Cli) -> None:
    write_plugin("experts", EXPERTS)
    tree = json.loads(cli("schema", "--any").out)
    assert (tree["if"], "merge_method" in tree["then"]["properties"]) == (
        {"required": ["merge_method"]},
        True,
    )
    others = {one["title"]: one for one in tree["else"]["anyOf"]}
    assert all(one["additionalProperties"] is False for one in others.values())  # else it would take anything
    assert {"experts", "transplant", "moe", "pick_experts", "layershuffle"} <= others.keys()
    assert others["moe"]["properties"]["experts"]["items"] == {"$ref": "#/$defs/moe.Expert"}
    refs = {one["$ref"] for one in nested(tree) if "$ref" in one}
    assert refs == {f"#/$defs/{name}" for name in tree["$defs"]} & refs
    outcome = cli("schema", "moe", "--any")
    assert (outcome.code, "name a RECIPE, or give --any" in outcome.err) == (2, True)


def nested(value: Any) -> Iterator[dict[str, Any]]:
    """All mappings within a value."""
    if isinstance(value, dict):
        yield value
    for one in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from nested(one)


# ---- what is wrong with a recipe ---------------------------------------------------------------------------

WRONG = """
from mergecore import Recipe, hookimpl
from mergecore.types import OutputTensor, Step, TensorInput

def compile(document, planner):
    model = planner.open(document.data["wrong"])
    norm = model.tensors["model.norm.weight"]
    made = dict(name="x", dtype="F32", shape=norm.shape)
    steps = [
        Step(**{
            "outputs": (OutputTensor(**{key: change.get(key, made[key]) for key in made}),),
            "inputs": (TensorInput(0, norm),),
            **{key: value for key, value in change.items() if key not in made},
        })
        for change in CHANGES(norm)
    ]
    return planner.plan([model], steps, planner.side_files([model], steps))

@hookimpl
def mergecore_recipes():
    yield Recipe(name="wrong", accepts=lambda data: "wrong" in data, compile=compile)
"""


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ("[{}, {}]", "tensor 'x' is made 2 times"),
        ("[{'outputs': ()}]", "a step makes no tensor"),
        (
            "[{'outputs': (OutputTensor('x', 'F32', (4,)), OutputTensor('y', 'F32', (4,)))}]",
            "step 'x' has no method, so it can make one tensor only",
        ),
        (
            "[{'method': 'linear', 'base': TensorInput(0, model.tensors['lm_head.weight'])}]",
            "step 'x' has inputs of different shapes: those beside the first belong into `matrices`",
        ),
        ("[{'dtype': 'f32'}]", "step 'x' makes f32, which is not a dtype"),
        ("[{'shape': (3,)}]", "step 'x' has no method, so it must have one input, of the shape [3]"),
        ("[{'inputs': ()}]", "step 'x' has no method, so it must have one input, of the shape [4]"),
        ("[{'inputs': (TensorInput(1, norm),)}]", "step 'x' reads model 1, and there are 1"),
        ("[{'method': 'linera'}]", "E108: unknown merge method 'linera'; did you mean 'linear'?"),
    ],
)
def test_steps_that_contradict_each_other_or_the_models_are_refused(
    write_plugin: WritePlugin, cli: Cli, changes: str, told: str
) -> None:
    write_plugin("wrong", WRONG.replace("CHANGES(norm)", changes))
    write_llama(Path("a"), 1)
    [line] = refusal_of(cli, "wrong: ./a\n")
    assert told in line
    if "E108" not in told:
        assert line == f"E605: recipe 'wrong': {told}. Hint: report it to its authors"


def test_what_no_plan_is_is_refused(write_plugin: WritePlugin, cli: Cli) -> None:
    code = WRONG[: WRONG.index("    model = ")] + "    return 7\n" + WRONG[WRONG.index("\n@hookimpl") :]
    write_plugin("wronger", code.replace("wrong", "wronger"))
    assert refusal_of(cli, "wronger: ./a\n") == ["E605: recipe 'wronger' returns int in place of a Plan"]
