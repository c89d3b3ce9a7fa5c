"""Merging the modules of a model in several ways."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from refusals import refused
from tiny import llama, llama_config, read_tensors, registry, write_checkpoint, write_llama
from torch import Tensor

from mergecore import merge, plan
from mergecore.cli.show_plan import plan_as_json, plan_as_text
from mergecore.engine.memory import Estimate
from mergecore.types import Json, Plan
from mergecore.types.execution import RunOptions

Config = dict[str, Any]

VISION: dict[str, Json] = {
    "model_type": "unheard_vision",
    "num_hidden_layers": 3,
    "layer_types": ["a", "b", "c"],
}
CONFIG: dict[str, Json] = {"model_type": "unheard", "text_config": llama_config(2), "vision_config": VISION}


def seeing(value: float) -> dict[str, Tensor]:
    """A model that sees: three layers of vision, a projector, and a Llama of two layers."""
    names = [f"vision_tower.layers.{i}.{part}.weight" for i in range(3) for part in ("q", "up", "norm")]
    vision = {name: torch.full((2, 2), value) for name in names}
    text = {f"language_model.{name}": one for name, one in llama(2, value).items()}
    return {**vision, "multi_modal_projector.weight": torch.full((2,), value), **text}


@pytest.fixture(autouse=True)
def _models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test works in a folder with the models a, all ones, and b, all threes."""
    monkeypatch.chdir(tmp_path)
    write_checkpoint(Path("a"), seeing(1.0), CONFIG)
    write_checkpoint(Path("b"), seeing(3.0), CONFIG)


def models(**weights: float) -> Config:
    """A module that is merged of whole models with these weights."""
    return {"models": [{"model": name, "parameters": {"weight": weight}} for name, weight in weights.items()]}


def sliced(*layers: tuple[str, int, int]) -> Config:
    """A module that is put together of layers."""
    return {
        "slices": [
            {"sources": [{"model": name, "layer_range": [first, end], "parameters": {"weight": 1}}]}
            for name, first, end in layers
        ]
    }


def linear(**modules: Config) -> Config:
    return {"merge_method": "linear", "base_model": "a", "modules": modules}


def passthrough(**modules: Config) -> Config:
    bare = json.loads(json.dumps(modules).replace(', "parameters": {"weight": 1}', ""))
    return {"merge_method": "passthrough", "base_model": "a", "modules": bare}


def values(config: Config) -> dict[str, set[float]]:
    """The numbers of each tensor of the merged model."""
    merge(config, "out", registry=registry(), run_options=RunOptions(overwrite=True))
    return {name: set(one.flatten().tolist()) for name, one in read_tensors(Path("out")).items()}


def by_module(config: Config) -> dict[str, set[float]]:
    """The numbers below each first word of the names."""
    found: dict[str, set[float]] = {}
    for name, numbers in values(config).items():
        found.setdefault(name.split(".")[0], set()).update(numbers)
    return found


def planned(config: Config) -> Plan:
    return plan(config, registry=registry())


def test_each_module_has_its_own_models() -> None:
    config = linear(
        language_model=models(a=1, b=1), vision_tower=models(b=1), multi_modal_projector=models(a=1, b=3)
    )
    found = by_module(config)
    assert found == {"language_model": {2.0}, "vision_tower": {3.0}, "multi_modal_projector": {2.5}}
    assert set(values(config)) == set(seeing(0.0))


def test_modules_have_the_names_that_other_tools_give_them() -> None:
    config = linear(text_decoder=models(a=1, b=1), vision_model=models(b=1))
    assert by_module(config) == {
        "language_model": {2.0},
        "vision_tower": {3.0},
        "multi_modal_projector": {1.0},
    }
    by_layers = linear(**{"vision_tower.layers": models(b=1)})
    assert by_module(by_layers)["vision_tower"] == {3.0}


def test_modules_that_are_not_named_are_those_of_the_base() -> None:
    config = {**linear(language_model=models(b=1)), "dtype": "bfloat16"}
    made = planned(config)
    told = {step.name.split(".")[0]: (step.method, step.outputs[0].dtype, step.note) for step in made.steps}
    assert told == {
        "vision_tower": (None, "F32", "not selected"),
        "multi_modal_projector": (None, "F32", "not selected"),
        "language_model": ("linear", "BF16", ""),
    }
    assert by_module(config)["vision_tower"] == {1.0}
    assert {(one.model, one.reason) for one in made.dropped} == {
        (0, "another model gives it"),
        (1, "its module is not merged"),
    }


def test_the_parameters_of_a_module_are_its_own() -> None:
    text = {**models(a=1, b=1), "parameters": {"weight": 1}}
    for entry in text["models"]:
        del entry["parameters"]
    vision = {"models": [{"model": "a"}, {"model": "b"}]}
    config = {
        **linear(language_model=text, vision_tower=vision),
        "parameters": {"weight": 2, "normalize": False},
    }
    assert by_module(config) == {
        "language_model": {4.0},
        "vision_tower": {8.0},
        "multi_modal_projector": {1.0},
    }


def test_layers_of_each_module_are_selected_and_counted() -> None:
    config = passthrough(
        vision_tower=sliced(("a", 0, 1), ("b", 2, 3)), language_model=sliced(("a", 0, 2), ("b", 1, 2))
    )
    found = values(config)
    assert found["vision_tower.layers.1.q.weight"] == {3.0}
    assert "vision_tower.layers.2.q.weight" not in found
    assert found["language_model.model.layers.2.mlp.up_proj.weight"] == {3.0}
    assert found["language_model.model.norm.weight"] == {3.0}
    assert found["multi_modal_projector.weight"] == {1.0}
    written = json.loads(Path("out/config.json").read_text())
    assert written["text_config"]["num_hidden_layers"] == 3
    assert written["vision_config"]["num_hidden_layers"] == 2
    assert written["vision_config"]["layer_types"] == ["a", "c"]


def test_gradients_run_over_the_layers_of_the_module() -> None:
    config = linear(vision_tower=models(a=1, b=1))
    config["modules"]["vision_tower"]["models"][1]["parameters"] = {"weight": [1, 3]}
    config["parameters"] = {"normalize": False}
    found = values(config)
    assert [found[f"vision_tower.layers.{i}.q.weight"] for i in range(3)] == [{4.0}, {7.0}, {10.0}]


def test_slices_without_modules_mean_the_text() -> None:
    config = {**passthrough(), **sliced(("a", 0, 2), ("b", 1, 2))}
    del config["modules"]
    for one in config["slices"]:
        del one["sources"][0]["parameters"]
    found = values(config)
    assert found["language_model.model.layers.2.mlp.up_proj.weight"] == {3.0}
    assert found["vision_tower.layers.2.q.weight"] == {1.0}
    assert "\nlayers language_model.model.layers.*\n" in plan_as_text(planned(config), Estimate(1, 0, 0))


def test_the_plan_names_the_modules() -> None:
    made = planned(linear(language_model=models(a=1)))
    assert (
        "\nmodules\n"
        "  language_model (also text_decoder, language_model.model.layers), 2 × language_model.model.layers\n"
        "  multi_modal_projector\n"
        "  vision_tower (also vision_model, vision_tower.layers), 3 × vision_tower.layers\n"
    ) in plan_as_text(made, Estimate(1, 0, 0)) + "\n"
    modules = plan_as_json(made, Estimate(1, 0, 0))["modules"]
    assert isinstance(modules, list)
    assert modules[1] == {"name": "multi_modal_projector", "layers": None, "aliases": []}


def test_a_model_of_one_module_has_a_default_one() -> None:
    write_llama(Path("c"), 2, 1.0)
    write_llama(Path("d"), 2, 3.0)
    config = {"merge_method": "linear", "modules": {"default": models(c=1, d=1)}}
    assert set().union(*values(config).values()) == {2.0}
    assert "modules" not in plan_as_text(planned(config), Estimate(1, 0, 0))


def test_an_unknown_module_is_refused() -> None:
    (found,) = refused(linear(langauge_model=models(a=1)))
    assert found == (
        "E105 a has no module 'langauge_model'; did you mean 'language_model'? "
        "Hint: its modules: language_model (also text_decoder, language_model.model.layers), "
        "multi_modal_projector, vision_tower (also vision_model, vision_tower.layers)"
    )
    write_llama(Path("c"), 2)
    (found,) = refused({"merge_method": "linear", "modules": {"vision_tower": models(c=1)}})
    assert found.endswith("c has no module 'vision_tower'. Hint: its modules: default")


def test_layers_of_a_module_without_any_are_refused() -> None:
    (found,) = refused(passthrough(multi_modal_projector=sliced(("a", 0, 1))))
    told = "E113 the module 'multi_modal_projector' of a has no layers to choose from"
    assert found == f"{told}. Hint: merge it with 'models:'"


def test_a_range_beyond_the_layers_of_a_module_is_refused() -> None:
    (found,) = refused(passthrough(vision_tower=sliced(("a", 0, 4))))
    assert found.startswith("E113 layer_range [0, 4] is beyond a, which has 3 layers")


def test_the_same_module_under_two_names_is_refused() -> None:
    (found,) = refused(linear(language_model=models(a=1), text_decoder=models(b=1)))
    assert (
        found == "E105 'text_decoder' is another name of the module 'language_model', which is there already"
    )


def test_models_whose_modules_differ_in_depth_are_refused() -> None:
    tensors = {name: one for name, one in seeing(1.0).items() if ".2." not in name}
    config = {**CONFIG, "vision_config": {**VISION, "num_hidden_layers": 2}}
    write_checkpoint(Path("c"), tensors, config)
    (found,) = refused(linear(vision_tower=models(a=1, c=1)))
    assert found.startswith("E231 the models have different numbers of layers: a 3, c 2")
    assert by_module(linear(language_model=models(a=1, c=1)))["language_model"] == {1.0}
