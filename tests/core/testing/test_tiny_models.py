"""Tiny models are what transformers loads, whole, with a tokenizer that speaks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
import transformers
from safetensors.torch import load_file
from tiny_moe import quiet

from mergecore.testing import TinyFamily, tiny_model

CLASSES = {
    "llama": transformers.AutoModelForCausalLM,
    "moe": transformers.AutoModelForCausalLM,
    "bert": transformers.AutoModelForMaskedLM,
    "vlm": transformers.AutoModelForImageTextToText,
}
every_family = pytest.mark.parametrize("family", get_args(TinyFamily))


def loaded(folder: Path, family: str) -> Any:
    with quiet():
        model, odd = CLASSES[family].from_pretrained(folder, output_loading_info=True)
    assert not any(odd.values()), odd
    return model.eval()


@every_family
def test_a_tiny_model_loads_whole_and_its_tokenizer_speaks(family: TinyFamily, tmp_path: Path) -> None:
    folder = tiny_model(tmp_path / "model", family, dtype="bfloat16")
    model = loaded(folder, family)
    assert model.dtype == torch.bfloat16
    tokenizer: Any = transformers.AutoTokenizer.from_pretrained(folder)
    ids = tokenizer("the land is thin")["input_ids"]
    assert tokenizer.decode(ids) == "the land is thin"
    assert len(tokenizer) == model.get_input_embeddings().weight.shape[0]
    asked: dict[str, Any] = {"input_ids": torch.tensor([ids])}
    if family == "vlm":
        pictures = [model.config.image_token_id] * 4
        asked = {"input_ids": torch.tensor([pictures + ids]), "pixel_values": torch.ones(1, 3, 4, 4)}
    with torch.no_grad():
        logits = model.float()(**asked).logits
    assert bool(torch.isfinite(logits).all())


@every_family
def test_seeds_make_other_models_and_the_same_seed_the_same(family: TinyFamily, tmp_path: Path) -> None:
    first, again, other = (
        load_file(tiny_model(tmp_path / name, family, seed) / "model.safetensors")
        for name, seed in (("first", 1), ("again", 1), ("other", 2))
    )
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not any(torch.equal(first[name], other[name]) for name in first)


@pytest.mark.parametrize("family", ["llama", "moe", "vlm"])
def test_a_tied_model_has_no_head(family: TinyFamily, tmp_path: Path) -> None:
    folder = tiny_model(tmp_path / "tied", family, config={"tie_word_embeddings": True})
    assert not [name for name in load_file(folder / "model.safetensors") if "lm_head" in name]


def test_what_is_asked_for_is_there(tmp_path: Path) -> None:
    folder = tiny_model(
        tmp_path / "model",
        layers=3,
        value=0.5,
        tokens=["<one>"],
        config={"rms_norm_eps": 1e-3},
        change=lambda tensors: {**tensors, "more": torch.ones(1)},
    )
    tensors = load_file(folder / "model.safetensors")
    assert tensors.pop("more").tolist() == [1]
    assert all(bool((one == 0.5).all()) for one in tensors.values())
    config = json.loads((folder / "config.json").read_text())
    assert (config["num_hidden_layers"], config["rms_norm_eps"]) == (3, 1e-3)
    tokenizer: Any = transformers.AutoTokenizer.from_pretrained(folder)
    assert tokenizer.convert_tokens_to_ids("<one>") == config["vocab_size"] - 1
    assert tensors["model.embed_tokens.weight"].shape[0] == config["vocab_size"]
    assert len(loaded(tiny_model(tmp_path / "deep", layers=3), "llama").model.layers) == 3


def test_without_a_tokenizer_there_is_none(tmp_path: Path) -> None:
    folder = tiny_model(tmp_path / "model", tokenizer=False)
    assert {path.name for path in folder.iterdir()} == {"model.safetensors", "config.json"}


def test_unknown_families_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"there is no tiny model 'gpt'; there are llama, moe, bert, vlm$"):
        tiny_model(tmp_path / "model", "gpt")  # type: ignore[arg-type]
