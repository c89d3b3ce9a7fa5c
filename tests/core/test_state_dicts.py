"""Merging what is in memory: state dicts and modules, with the numbers of a merge on disk."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from benchmarks.methods import CASES, config_for
from safetensors.torch import load_file
from state_dicts import NAMES, Tensors
from tiny import llama_config
from torch import Tensor

import mergecore
from mergecore import MergecoreError, Registry, RunOptions
from mergecore.planning.state_dicts import StateDicts
from mergecore.types.events import Event, PlanReady, StepDone


def on_disk(config: Mapping[str, Any]) -> Tensors:
    return load_file(mergecore.merge(config, "out") / "model.safetensors")


def assert_same(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    """Bit for bit, under the same names in any order."""
    assert found.keys() == wanted.keys()
    for name, one in wanted.items():
        assert found[name].dtype == one.dtype
        assert torch.equal(found[name], one), name


def blank(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config with models by their bare names."""
    return {**config, "models": [{**one, "model": Path(one["model"]).name} for one in config["models"]]} | (
        {"base_model": Path(config["base_model"]).name} if "base_model" in config else {}
    )


# ---- numbers -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", sorted(CASES))
def test_a_config_merges_in_memory_as_on_disk(models: dict[str, Tensors], method: str) -> None:
    config: dict[str, Any] = config_for(
        method, Path("./base"), [Path(f"./{name}") for name in "abc"], "float32"
    )
    used = {Path(str(config.get("base_model"))).name, *(Path(one["model"]).name for one in config["models"])}
    given = {name: one for name, one in models.items() if name in used}
    wanted = on_disk(config)
    for name in models:  # nothing is read from disk
        Path(name, "model.safetensors").unlink()
    assert_same(mergecore.merge_state_dicts(blank(config), given), wanted)


@pytest.mark.parametrize("method", ["dare_ties", "task_arithmetic", "slerp"])
def test_a_method_with_parameters_is_the_config_that_says_the_same(
    models: dict[str, Tensors], method: str
) -> None:
    parameters: dict[str, Any] = {"weight": [0.6, 0.4], "density": {"a": 0.5, "b": 0.7}}
    named: tuple[str, ...] = NAMES[:3]
    if method == "task_arithmetic":
        parameters = {"weight": np.array([0.6, 0.4]), "lambda": 0.5}
    if method == "slerp":
        parameters, named = {"t": 0.25}, NAMES[:2]
    entries = []
    for i, name in enumerate(named[1:]):
        own = {"weight": [0.6, 0.4][i], "density": [0.5, 0.7][i]} if method == "dare_ties" else {}
        own = {"weight": [0.6, 0.4][i]} if method == "task_arithmetic" else own
        entries.append({"model": f"./{name}", "parameters": own} if own else {"model": f"./{name}"})
    shared = {key: one for key, one in parameters.items() if key in ("t", "lambda")}
    config = {
        "merge_method": method,
        "base_model": "./base",
        "models": entries,
        "seed": 7,
        "dtype": "bfloat16",
    }
    given = {name: models[name] for name in named}
    found = mergecore.merge_state_dicts(
        method, given, base="base", seed=7, dtype=torch.bfloat16, **parameters
    )
    assert_same(found, on_disk({**config, "parameters": shared}))


def test_layers_are_stacked_in_memory_as_on_disk(models: dict[str, Tensors]) -> None:
    slices = [
        {"sources": [{"model": "a", "layer_range": [0, 2]}]},
        {"sources": [{"model": "b", "layer_range": [1, 2]}]},
    ]
    config = {"merge_method": "passthrough", "slices": slices}
    given = {name: models[name] for name in "ab"}
    found = mergecore.merge_state_dicts(config, given)
    assert_same(found, on_disk(config))
    assert "model.layers.2.mlp.up_proj.weight" in found


def test_models_in_memory_and_on_disk_are_merged_with_each_other(models: dict[str, Tensors]) -> None:
    config = {
        "merge_method": "linear",
        "models": [{"model": one, "parameters": {"weight": 1}} for one in ("a", "./b")],
    }
    assert_same(mergecore.merge_state_dicts(config, {"a": models["a"]}), on_disk(config))


def test_modules_are_merged_and_the_result_loads_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    monkeypatch.chdir(tmp_path)
    config = LlamaConfig.from_dict({**llama_config(2), "tie_word_embeddings": True})
    modules = {}
    for seed, name in enumerate("abc"):
        torch.manual_seed(seed)
        modules[name] = LlamaForCausalLM(config)
        modules[name].save_pretrained(name)
    found = mergecore.merge_state_dicts("dare_ties", modules, base="a", weight=[0.5, 0.25], density=0.5)
    entries = [
        {"model": f"./{name}", "parameters": {"weight": one}} for name, one in (("b", 0.5), ("c", 0.25))
    ]
    said = {
        "merge_method": "dare_ties",
        "base_model": "./a",
        "models": entries,
        "parameters": {"density": 0.5},
    }
    wanted = on_disk(said)
    assert "lm_head.weight" not in wanted
    assert torch.equal(found.pop("lm_head.weight"), wanted["model.embed_tokens.weight"])
    assert_same(found, wanted)
    made = LlamaForCausalLM(config)
    made.load_state_dict({**found, "lm_head.weight": found["model.embed_tokens.weight"]})
    loaded = LlamaForCausalLM.from_pretrained("out")
    tokens = torch.arange(8)[None]
    assert torch.equal(made(tokens).logits, loaded(tokens).logits)


def test_heads_that_are_tied_in_one_model_only_are_merged_apart() -> None:
    shared, other = torch.full((4, 2), 1.0), torch.full((4, 2), 3.0)
    models = {"a": {"embed": shared, "head": shared}, "b": {"embed": other, "head": other + 2}}
    found = mergecore.merge_state_dicts("linear", models, weight=1.0)
    assert (found["embed"].unique().tolist(), found["head"].unique().tolist()) == ([2.0], [3.0])


def test_views_of_one_memory_are_not_the_same_tensor() -> None:
    models: dict[str, Tensors] = {}
    for name, value in (("a", 1.0), ("b", 3.0)):
        flat = torch.arange(6.0) * value
        models[name] = {
            "one": flat[:4],
            "two": flat[:4].view(2, 2),
            "three": flat[2:],
            "four": flat[:4].view(2, 2).T,
        }
    found = mergecore.merge_state_dicts("linear", models, weight=1.0)
    assert found["one"].tolist() == [0, 2, 4, 6]
    assert found["two"].tolist() == [[0, 2], [4, 6]]
    assert found["three"].tolist() == [4, 6, 8, 10]
    assert found["four"].tolist() == [[0, 4], [2, 6]]


def test_what_is_handed_over_is_not_changed_and_not_copied(models: dict[str, Tensors]) -> None:
    before = {name: {key: one.clone() for key, one in tensors.items()} for name, tensors in models.items()}
    mergecore.merge_state_dicts("ties", models, base="base", weight=1.0, density=0.5)
    for name, tensors in models.items():
        assert_same(tensors, before[name])


# ---- runs --------------------------------------------------------------------------------------------------


def test_events_are_heard(models: dict[str, Tensors]) -> None:
    heard: list[Event] = []
    found = mergecore.merge_state_dicts("linear", models, weight=1.0, progress=heard.append)
    assert isinstance(heard[0], PlanReady)
    assert heard[0].models == NAMES
    assert {one.name for one in heard if isinstance(one, StepDone)} == found.keys()


def test_a_plan_may_be_run_again_and_in_any_number_of_threads(models: dict[str, Tensors]) -> None:
    config = {
        "merge_method": "ties",
        "base_model": "base",
        "models": [{"model": "a", "parameters": {"weight": 1}}],
    }
    registry = Registry.discover().with_sources(StateDicts(models).source)
    made = mergecore.plan(config, registry=registry)
    first = mergecore.run(made, registry=registry, options=RunOptions(threads=1))
    assert_same(mergecore.run(made, registry=registry, options=RunOptions(threads=3)), first)
    for tensors in models.values():
        for one in tensors.values():
            one.zero_()
    assert not any(one.any() for one in mergecore.run(made, registry=registry).values())


def test_models_in_memory_are_merged_into_a_folder(models: dict[str, Tensors]) -> None:
    config = {
        "merge_method": "linear",
        "models": [{"model": one, "parameters": {"weight": 1}} for one in ("a", "b")],
    }

    def written(folder: str, **options: Any) -> bytes:
        registry = Registry.discover().with_sources(StateDicts(models).source)
        made = mergecore.plan(config, registry=registry)
        out = mergecore.execute(made, folder, registry=registry, options=RunOptions(**options))
        return (out / "model.safetensors").read_bytes()

    first = written("out")
    assert written("out") == first  # is there already
    models["a"]["model.norm.weight"] += 1
    with pytest.raises(MergecoreError, match="it holds another merge"):
        written("out")
    assert written("out", overwrite=True) != first


def test_memory_is_bounded_as_on_disk(models: dict[str, Tensors]) -> None:
    with pytest.raises(MergecoreError, match="the merge needs about"):
        mergecore.merge_state_dicts("linear", models, weight=1.0, run_options=RunOptions(max_memory=1000))


def test_torch_is_not_imported_before_it_is_needed() -> None:
    code = (
        "import sys; from mergecore import merge_tensors, merge_state_dicts; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
