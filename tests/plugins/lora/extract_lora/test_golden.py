"""What PEFT makes of a base with an extracted adapter is the fine-tune."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from fixture_types import Cli
from peft import PeftModel
from safetensors.torch import load_file
from tiny_families import FAMILIES, answer, example, filled, written

pytestmark = pytest.mark.filterwarnings("ignore")


def loaded(base: str, adapter: str, kind: type[Any]) -> Any:
    return PeftModel.from_pretrained(kind.from_pretrained(base), adapter).eval()


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("family", FAMILIES)
def test_at_full_rank_peft_makes_the_fine_tune(family: str, cli: Cli) -> None:
    base, finetuned = written(family, Path("base"), Path("tuned"))
    outcome = cli("extract-lora", "tuned", "base", "adapter", "--rank", "full")
    assert outcome.code == 0, outcome.err
    asked = example(family)
    model = loaded("base", "adapter", type(base))
    wanted = answer(finetuned, asked)
    assert (wanted - answer(base, asked)).abs().max() > 0.01
    assert (answer(model, asked) - wanted).abs().max() < 1e-5
    verified = cli("verify", "adapter")
    assert verified.code == 0, verified.err


@pytest.mark.parametrize("family", FAMILIES)
def test_merged_back_by_mergecore_it_is_the_fine_tune(family: str, cli: Cli) -> None:
    base, finetuned = written(family, Path("base"), Path("tuned"))
    assert cli("extract-lora", "tuned", "base", "adapter", "--rank", "full").code == 0
    outcome = cli("merge-lora", "base", "adapter", "merged")
    assert outcome.code == 0, outcome.err
    model, asked = type(base).from_pretrained("merged").eval(), example(family)
    assert (answer(model, asked) - answer(finetuned, asked)).abs().max() < 1e-5


def test_what_peft_is_told_names_every_module_in_full(cli: Cli) -> None:
    written("qwen2", Path("base"), Path("tuned"))
    assert cli("extract-lora", "tuned", "base", "adapter", "--rank", "6").code == 0
    config = json.loads(Path("adapter/adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "base"
    assert (config["peft_type"], config["task_type"]) == ("LORA", "CAUSAL_LM")
    assert (config["r"], config["lora_alpha"], config["rank_pattern"]) == (6, 6, {})
    assert "model.layers.1.self_attn.q_proj" in config["target_modules"]
    assert config["modules_to_save"][-1] == "model.norm"
    assert config["bias"] == "all"
    assert "lora_bias" not in config


def test_changes_of_biases_are_added_by_peft_where_all_layers_have_one(cli: Cli) -> None:
    base, finetuned = written("gpt2", Path("base"), Path("tuned"))
    words = ("--rank", "full", "--embeddings", "skip")
    outcome = cli("extract-lora", "tuned", "base", "adapter", *words)
    assert outcome.code == 0, outcome.err
    config = json.loads(Path("adapter/adapter_config.json").read_text())
    assert (config["lora_bias"], config["bias"], config["fan_in_fan_out"]) == (True, "none", True)
    for name in ("wte", "wpe"):  # what is left out is as in the base
        getattr(finetuned.transformer, name).weight.data = getattr(base.transformer, name).weight.data
    model, asked = loaded("base", "adapter", type(base)), example("gpt2")
    assert (answer(model, asked) - answer(finetuned, asked)).abs().max() < 1e-5
    merged = model.merge_and_unload()
    assert (answer(merged, asked) - answer(finetuned, asked)).abs().max() < 1e-5


@pytest.mark.parametrize("family", ["llama", "llama-tied"])
@pytest.mark.parametrize("embeddings", ["lora", "skip"])
def test_new_tokens_are_stored_whole_and_peft_loads_them_after_resizing(
    family: str, embeddings: str, cli: Cli
) -> None:
    base, finetuned = written(family, Path("base"), Path("tuned"))
    finetuned.resize_token_embeddings(48, mean_resizing=False)
    finetuned.save_pretrained("tuned")
    words = ("--rank", "full", "--embeddings", embeddings)
    outcome = cli("extract-lora", "tuned", "base", "adapter", *words)
    assert outcome.code == 0, outcome.err
    if embeddings == "skip":
        assert "modules_to_save" not in str(cli("extract-lora", "tuned", "base", "b").err)
        return
    assert "after base.resize_token_embeddings(48) only" in outcome.err
    model = type(base).from_pretrained("base")
    model.resize_token_embeddings(48, mean_resizing=False)
    model = PeftModel.from_pretrained(model, "adapter").eval()
    asked = {"input_ids": torch.tensor([[1, 45, 3, 47]])}
    assert (answer(model, asked) - answer(finetuned, asked)).abs().max() < 1e-5


def test_embeddings_stored_whole_and_a_head_that_is_tied_to_them(cli: Cli) -> None:
    base, finetuned = written("llama-tied", Path("base"), Path("tuned"))
    assert cli("extract-lora", "tuned", "base", "adapter", "--rank", "full", "--embeddings", "save").code == 0
    model, asked = loaded("base", "adapter", type(base)), example("llama")
    assert (answer(model, asked) - answer(finetuned, asked)).abs().max() < 1e-5


@pytest.mark.parametrize("tied", ["base", "tuned"])
def test_only_one_of_the_two_ties_its_head(tied: str, cli: Cli) -> None:
    families = {"base": "llama-tied" if tied == "base" else "llama"}
    families["tuned"] = "llama" if tied == "base" else "llama-tied"
    models = {name: filled(family, seed) for seed, (name, family) in enumerate(families.items())}
    for name, model in models.items():
        model.save_pretrained(name)
    outcome = cli("extract-lora", "tuned", "base", "adapter", "--rank", "full")
    assert outcome.code == 0, outcome.err
    model, asked = loaded("base", "adapter", type(models["base"])), example("llama")
    assert (answer(model, asked) - answer(models["tuned"], asked)).abs().max() < 1e-5


def test_only_linear_layers(cli: Cli) -> None:
    written("qwen2", Path("base"), Path("tuned"))
    assert cli("extract-lora", "tuned", "base", "adapter", "--only-linear").code == 0
    config = json.loads(Path("adapter/adapter_config.json").read_text())
    assert (config["modules_to_save"], config["bias"]) == (None, "none")
    stored = load_file("adapter/adapter_model.safetensors")
    assert {name.rpartition("lora_")[2] for name in stored} == {"A.weight", "B.weight"}
    assert not any("embed" in name for name in stored)


def test_a_head_of_classes_that_is_left_out_is_not_asked_for(cli: Cli) -> None:
    base, _ = written("bert-of-classes", Path("base"), Path("tuned"))
    outcome = cli("extract-lora", "tuned", "base", "adapter", "--exclude", "classifier")
    assert outcome.code == 0, outcome.err
    assert json.loads(Path("adapter/adapter_config.json").read_text())["task_type"] is None
    loaded("base", "adapter", type(base))


def test_convolutions_with_groups_are_stored_whole_and_named(cli: Cli) -> None:
    written("convnext", Path("base"), Path("tuned"))
    outcome = cli("extract-lora", "tuned", "base", "adapter")
    told = "convolutions with groups are stored whole, since PEFT cannot merge factors of them: "
    assert f"{told}'convnext.encoder.stages.0.layers.0.dwconv'" in outcome.err
    outcome = cli("extract-lora", "tuned", "base", "linear", "--only-linear")
    assert "convolutions with groups" not in outcome.err


def test_layers_that_compute_in_their_own_way_are_stored_whole(cli: Cli) -> None:
    """The positions of BART are embeddings that are asked for no numbers of tokens; PEFT's layer would fail."""
    written("bart", Path("base"), Path("tuned"))
    assert cli("extract-lora", "tuned", "base", "adapter").code == 0
    config = json.loads(Path("adapter/adapter_config.json").read_text())
    assert "model.encoder.embed_positions" in config["modules_to_save"]
    assert "model.encoder.embed_tokens" in config["target_modules"]
