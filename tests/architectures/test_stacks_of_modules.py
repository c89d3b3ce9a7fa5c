"""Stacks of the layers of encoders and towers: transformers loads them and computes what a model made by hand does.

The embeddings of a module are those of its first slice, its last norm and its pooling head those of the last.
"""

from __future__ import annotations

import importlib
import json
import logging
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import read_config, registry, write_checkpoint
from torch import Tensor

from mergecore import merge, plan
from mergecore.types import Json

Layers = list[tuple[str, int]]

SEQUENCES: dict[str, Any] = {
    "T5": {"vocab_size": 20, "d_model": 8, "d_kv": 4, "d_ff": 8, "num_heads": 2}
    | {"num_layers": 4, "num_decoder_layers": 4},
    "Bart": {"vocab_size": 20, "d_model": 8, "encoder_attention_heads": 2, "decoder_attention_heads": 2}
    | {"encoder_layers": 4, "decoder_layers": 4, "encoder_ffn_dim": 8, "decoder_ffn_dim": 8}
    | {"max_position_embeddings": 16, "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2},
}
SEQUENCES["MBart"] = SEQUENCES["Bart"]
"""Models of an encoder and a decoder, whose tied head is not on disk; Bart has a bias of it there."""

COUNTS = {"encoder": ("encoder_layers", "num_layers"), "decoder": ("decoder_layers", "num_decoder_layers")}
STACKED: Layers = [("a", 0), ("a", 1), ("a", 2), ("b", 1), ("b", 2), ("b", 3)]


@pytest.fixture(autouse=True)
def _quiet() -> None:
    logging.getLogger("transformers").setLevel(logging.CRITICAL)


def transformers() -> Any:
    return importlib.import_module("transformers")


def saved(cls: Any, config: Any, folder: Path, seed: int) -> Any:
    """A model with random numbers everywhere, biases and norms too."""
    torch.manual_seed(seed)
    model = cls(config).eval()
    with torch.no_grad():
        for one in model.parameters():
            one.add_(torch.randn_like(one) * 0.2)
    model.save_pretrained(folder)
    return model


def loaded(cls: Any, folder: Path) -> Any:
    model, told = cls.from_pretrained(folder, output_loading_info=True)
    assert not any(told[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    return model.eval()


def slices(folder: Path, layers: Layers) -> dict[str, Json]:
    """A slice for each layer, so that the last norm is that of the last layer's model."""
    sources: list[Json] = [
        {"sources": [{"model": str(folder / model), "layer_range": [index, index + 1]}]}
        for model, index in layers
    ]
    return {"slices": sources}


def by_hand(models: dict[str, Any], made: Any, stacks: dict[str, Layers]) -> Any:
    """`made` with the weights of `models`; `stacks`: by a pattern of names before the number, the layers."""
    states = {name: model.state_dict() for name, model in models.items()}
    wanted = {}
    for name in made.state_dict():
        wanted[name] = states["a"].get(name)
        for pattern, layers in stacks.items():
            if found := re.fullmatch(rf"((?:.*\.)?{pattern}\.(?:layers|block|blocks)\.)(\d+)(\..*)", name):
                model, index = layers[int(found[2])]
                wanted[name] = states[model][f"{found[1]}{index}{found[3]}"]
            elif re.search(rf"(^|\.){pattern.split(chr(92))[0]}\.({_LAST})\b", name):
                wanted[name] = states[layers[-1][0]][name]
    made.load_state_dict(wanted)
    return made.eval()


_LAST = "layer_norm|final_layer_norm|post_layernorm|head"


def of_text(model: Any) -> Tensor:
    tokens = torch.tensor([[3, 5, 2, 7, 4]])
    with torch.no_grad():
        found: Tensor = model(input_ids=tokens, decoder_input_ids=tokens[:, :3], use_cache=False).logits
    return found


@pytest.mark.parametrize("family", SEQUENCES)
@pytest.mark.parametrize("sides", [("decoder",), ("encoder",), ("encoder", "decoder")], ids="+".join)
def test_layers_of_an_encoder_and_of_a_decoder(family: str, sides: tuple[str, ...], tmp_path: Path) -> None:
    cls = getattr(transformers(), f"{family}ForConditionalGeneration")
    config = getattr(transformers(), f"{family}Config")
    settings = SEQUENCES[family]
    models = {
        name: saved(cls, config(**settings), tmp_path / name, i) for i, name in enumerate("ab", start=1)
    }
    document: dict[str, Json] = {
        "merge_method": "passthrough",
        "modules": {side: slices(tmp_path, STACKED) for side in sides},
    }
    out = merge(document, tmp_path / "out", registry=registry())
    deeper = {key: 6 for side in sides for key in COUNTS[side] if key in settings}
    expected = by_hand(models, cls(config(**{**settings, **deeper})), dict.fromkeys(sides, STACKED))
    assert of_text(loaded(cls, out)).allclose(of_text(expected), atol=1e-5)
    assert read_config(out).get("tie_word_embeddings", True) is True


def test_what_ends_a_tower_is_that_of_its_last_slice(tmp_path: Path) -> None:
    sizes = {
        "hidden_size": 8,
        "intermediate_size": 8,
        "num_attention_heads": 2,
        "image_size": 8,
        "patch_size": 4,
    }
    both, kind = transformers().SiglipModel, transformers().SiglipConfig
    text = {"vocab_size": 20, "hidden_size": 8, "intermediate_size": 8, "num_attention_heads": 2}
    text |= {"num_hidden_layers": 2, "max_position_embeddings": 8}

    def settings(count: int) -> Any:
        return kind(text_config=text, vision_config={**sizes, "num_hidden_layers": count})

    models = {name: saved(both, settings(4), tmp_path / name, i) for i, name in enumerate("ab", start=1)}
    document: dict[str, Json] = {
        "merge_method": "passthrough",
        "modules": {"vision_model": slices(tmp_path, STACKED)},
    }
    out = merge(document, tmp_path / "out", registry=registry())
    expected = by_hand(models, both(settings(6)), {r"vision_model\.encoder": STACKED})
    pixels = torch.randn(1, 3, 8, 8)
    with torch.no_grad():
        found, wanted = (one.get_image_features(pixel_values=pixels) for one in (loaded(both, out), expected))
    assert found.pooler_output.allclose(wanted.pooler_output, atol=1e-5)
    assert not [one for one in plan(document, registry=registry()).warnings if "head" in one]


def test_numbers_of_layers_with_full_attention_follow_them(tmp_path: Path) -> None:
    """Blocks 1 and 3 of each tower attend to the whole picture: of a0 a1 a2 b1 b2 b3 b3 these are 1, 3, 5 and 6."""
    cls, kind = transformers().Qwen2_5_VLForConditionalGeneration, transformers().Qwen2_5_VLConfig
    rope = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [1, 1, 0]}
    text: Any = {"vocab_size": 20, "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1}
    text |= {"num_attention_heads": 2, "num_key_value_heads": 1, "rope_parameters": rope}
    tower: Any = {"depth": 4, "hidden_size": 8, "out_hidden_size": 8, "intermediate_size": 8, "num_heads": 2}
    tower |= {"patch_size": 4, "spatial_merge_size": 2, "window_size": 8, "fullatt_block_indexes": [1, 3]}
    for seed, name in enumerate("ab"):
        saved(cls, kind(text_config=text, vision_config=tower), tmp_path / name, seed)
    document: dict[str, Json] = {
        "merge_method": "passthrough",
        "modules": {"visual": slices(tmp_path, [*STACKED, ("b", 3)])},
    }
    out = merge(document, tmp_path / "out", registry=registry())
    config: Any = read_config(out)
    assert config["vision_config"]["fullatt_block_indexes"] == [1, 3, 5, 6]
    assert loaded(cls, out).model.visual.config.depth == 7


TOWER: dict[str, Json] = {"model_type": "unheard", "num_hidden_layers": 4, "out_indices": [1, 3]}


@pytest.mark.parametrize(
    ("layers", "taps", "told"),
    [([0, 1, 1, 2], [1, 3], True), ([1, 0, 3], [0, 2], False), ([1, 2, 2, 3], [0, 3], False)],
)
def test_layers_whose_results_are_used_elsewhere_stay_the_same_ones(
    layers: list[int], taps: list[int], told: bool, tmp_path: Path
) -> None:
    """Where as many of them are not there, the numbers stay, and the plan says so."""
    names = [f"model.layers.{i}.{part}.weight" for i in range(4) for part in ("q_proj", "up_proj", "norm")]
    write_checkpoint(tmp_path / "a", {name: torch.ones(2, 2) for name in names}, TOWER)
    document: dict[str, Json] = {
        "merge_method": "passthrough",
        **slices(tmp_path, [("a", i) for i in layers]),
    }
    found = plan(document, registry=registry())
    written = found.side_files["config.json"]
    assert isinstance(written, bytes)
    assert json.loads(written)["out_indices"] == taps
    assert told == any("out_indices stays [1, 3]" in one for one in found.warnings)
