"""Whether the model of selected layers would load: what becomes of the answer."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import HIDDEN, llama, llama_config, registry, write_checkpoint, write_llama

from mergecore import plan
from mergecore.errors import ConfigError
from mergecore.files.strict_json import parse_json
from mergecore.plugins.registry import Registry
from mergecore.types import Json, Plan
from mergecore.types.plans import PlanOptions

TOLD = (
    "a model of these layers could not be loaded: 1 tensor would be missing, such as "
    "'gpt_neox_japanese.layers.1.attention.dense_bias'; 1 tensor would not be loaded, such as "
    "'gpt_neox_japanese.layers.0.attention.dense_bias'"
)


def stacked(folder: Path, *layers: int, found: Registry | None = None, **options: Any) -> Plan:
    """The plan of layers of the model in `folder`."""
    slices: list[Json] = [
        {"sources": [{"model": str(folder), "layer_range": [layer, layer + 1]}]} for layer in layers
    ]
    config: dict[str, Json] = {"merge_method": "passthrough", "slices": slices}
    return plan(config, registry=found or registry(), options=PlanOptions(**options))


def config_of(made: Plan) -> Mapping[str, Json]:
    text = made.side_files["config.json"]
    assert isinstance(text, bytes)
    config = parse_json(text, code="E220", place="config.json")
    assert isinstance(config, dict)
    return config


def write_gemma(folder: Path) -> Path:
    """A Gemma 3 whose second layer attends to everything; it has four norms more in each layer than a Llama."""
    tensors = llama(2, tied=True)
    for layer in range(2):
        prefix = f"model.layers.{layer}."
        norms = {"pre_feedforward_layernorm": HIDDEN, "post_feedforward_layernorm": HIDDEN}
        norms |= {"self_attn.q_norm": 2, "self_attn.k_norm": 2}
        tensors |= {f"{prefix}{name}.weight": torch.ones(size) for name, size in norms.items()}
    config = llama_config(2, model_type="gemma3_text", architectures=["Gemma3ForCausalLM"])
    more: dict[str, Json] = {"head_dim": 2, "sliding_window_pattern": 2, "tie_word_embeddings": True}
    return write_checkpoint(folder, tensors, {**config, **more})


def write_neox(folder: Path) -> Path:
    """A Japanese GPT-NeoX, whose last layer alone has a bias of the attention."""
    tensors = {"embed_in.weight": (8, 4), "final_layer_norm.weight": (4,), "final_layer_norm.bias": (4,)}
    for layer in range(2):
        norms = ("input_layernorm.weight", "input_layernorm.bias", "post_attention_layernorm.weight")
        own = dict.fromkeys((*norms, "post_attention_layernorm.bias"), (4,))
        matrices = {"attention.query_key_value": (12, 4), "attention.dense": (4, 4)}
        matrices |= {"mlp.dense_h_to_4h": (16, 4), "mlp.dense_4h_to_h": (4, 16)}
        tensors |= {f"layers.{layer}.{name}.weight": shape for name, shape in matrices.items()}
        tensors |= {f"layers.{layer}.{name}": shape for name, shape in own.items()}
    tensors["layers.1.attention.dense_bias"] = (4,)
    everything = {f"gpt_neox_japanese.{name}": torch.ones(shape) for name, shape in tensors.items()}
    config: dict[str, Json] = {
        "architectures": ["GPTNeoXJapaneseForCausalLM"],
        "model_type": "gpt_neox_japanese",
        "hidden_size": 4,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "vocab_size": 8,
        "tie_word_embeddings": False,
    }
    return write_checkpoint(folder, {**everything, "embed_out.weight": torch.ones(8, 4)}, config)


def test_the_config_says_what_the_layers_are(tmp_path: Path) -> None:
    made = stacked(write_gemma(tmp_path / "m"), 1, 1, 0)
    full, sliding = "full_attention", "sliding_attention"
    assert config_of(made)["num_hidden_layers"] == 3
    assert config_of(made)["layer_types"] == [full, full, sliding]
    assert "sliding_window_pattern" not in config_of(made)
    (told,) = made.warnings
    assert told.startswith(
        "layer_types: the kinds of layers no longer come round every 2 layers, from layer 0 of 3 on"
    )


def test_layers_that_make_no_model_are_refused_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        stacked(write_neox(tmp_path / "m"), 1, 0)
    assert caught.value.code == "E113"
    assert caught.value.what == TOLD
    assert caught.value.hint == "choose layers of the kind that is expected in their places"


@pytest.mark.parametrize("options", [{"unexpected": "drop"}, {"missing": "base"}, {"allow_crimes": True}])
def test_who_allows_for_tensors_that_do_not_fit_is_warned(tmp_path: Path, options: Mapping[str, Any]) -> None:
    assert TOLD in stacked(write_neox(tmp_path / "m"), 1, 0, **options).warnings


def test_layers_in_their_own_order_are_no_fault(tmp_path: Path) -> None:
    assert stacked(write_neox(tmp_path / "m"), 0, 1).warnings == ()


def test_an_unsure_warning_is_void_when_the_loader_has_no_objection(tmp_path: Path) -> None:
    folder = write_llama(tmp_path / "m", 3, strange_layers=[1])
    assert stacked(folder, 0, 1).warnings == ()
    unknown = write_llama(tmp_path / "n", 3, strange_layers=[1], model_type="unheard")
    assert stacked(unknown, 0, 1).warnings == (
        "strange_layers stays [1]; check that it fits the stacked layers",
        "no installed plugin can tell whether a model of these layers loads",
    )


def test_without_a_judge_layers_are_stacked_all_the_same(tmp_path: Path) -> None:
    found = Registry.discover(["transformers"])
    made = stacked(write_llama(tmp_path / "m", 2), 0, 0, 1, found=found)
    assert config_of(made)["num_hidden_layers"] == 3
    assert len(made.warnings) == 1
