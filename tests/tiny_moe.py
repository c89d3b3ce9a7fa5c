"""Tiny dense models to make mixtures of, the documents that do so, and what transformers makes of the result."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import transformers
from tiny import registry
from torch import Tensor
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

import mergecore
from mergecore.types import Json

SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 64,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
DENSE: dict[str, dict[str, Any]] = {
    "llama": {"model_type": "llama"},
    "llama-tied": {"model_type": "llama", "tie_word_embeddings": True, "rope_theta": 50000.0},
    "llama-biases": {"model_type": "llama", "attention_bias": True},
    "llama-mlp-biases": {"model_type": "llama", "mlp_bias": True},
    "llama-scaled": {
        "model_type": "llama",
        "rope_theta": 500000.0,
        "rope_scaling": {**LLAMA3, "original_max_position_embeddings": 8},
    },
    "llama-wide-heads": {"model_type": "llama", "head_dim": 16},
    "mistral": {"model_type": "mistral", "sliding_window": 4},
    "qwen2": {"model_type": "qwen2"},
    "qwen2-windows": {
        "model_type": "qwen2",
        "use_sliding_window": True,
        "sliding_window": 4,
        "max_window_layers": 1,
    },
    "qwen3": {"model_type": "qwen3", "head_dim": 8},
    "qwen3-biases": {"model_type": "qwen3", "head_dim": 16, "attention_bias": True},
    "seed-oss": {"model_type": "seed_oss", "head_dim": 8},
    "phi3": {"model_type": "phi3"},
    "phi3-partial": {"model_type": "phi3", "partial_rotary_factor": 0.5},
    "granite": {
        "model_type": "granite",
        "embedding_multiplier": 12.0,
        "attention_multiplier": 0.25,
        "residual_multiplier": 0.22,
        "logits_scaling": 8.0,
    },
    "olmo2": {"model_type": "olmo2"},
    "olmo3": {"model_type": "olmo3", "sliding_window": 4},
    "ernie": {"model_type": "ernie4_5", "head_dim": 8},
    "hunyuan": {"model_type": "hunyuan_v1_dense", "head_dim": 8},
    "helium": {"model_type": "helium", "head_dim": 8},
    "smollm3": {"model_type": "smollm3"},
    "smollm3-without-positions": {"model_type": "smollm3", "no_rope_layers": [1, 0, 1]},
    "gemma": {"model_type": "gemma", "head_dim": 8},
    "gemma2": {"model_type": "gemma2", "head_dim": 8},
    "cohere": {"model_type": "cohere"},
    "arcee": {"model_type": "arcee"},
    "stablelm": {"model_type": "stablelm"},
}
"""Configs by a name of ours."""


def write_dense(folder: Path, name: str = "llama", seed: int = 0, **changes: Any) -> Path:
    """Write a model of random numbers, norms and biases included; the folder."""
    keys = {**SIZES, **DENSE[name], **changes}
    config = CONFIG_MAPPING[keys.pop("model_type")](**keys)
    with quiet():
        model: Any = AutoModelForCausalLM.from_config(config)
        generator = torch.Generator().manual_seed(seed)
        for one in model.parameters():
            drawn = torch.randn(one.shape, generator=generator)
            one.data = 0.3 * drawn if one.dim() > 1 else 0.5 + 0.3 * drawn
        model.save_pretrained(folder)
    return folder


def document(base: Path, *experts: Path, shared: Path | None = None, **changes: Json) -> dict[str, Json]:
    """A document of a mixture with random routers; a shared expert that adds nothing."""
    said: dict[str, Json] = {
        "base_model": str(base),
        "gate_mode": "random",
        "experts_per_token": min(2, len(experts)),
        "experts": [{"source_model": str(one)} for one in experts],
        "allow_identical": True,
    }
    if shared:
        said["shared_experts"] = [{"source_model": str(shared), "residual_scale": 0.0}]
    return {**said, **changes}


def build(said: Mapping[str, Json], out: Path) -> Path:
    """Make the mixture that a document describes."""
    return mergecore.merge(said, out, registry=registry())


def loaded(folder: Path) -> tuple[Any, dict[str, Any]]:
    """The model by the class of transformers that its config names, in float32; and what was odd about its keys."""
    with quiet():
        found: Any = AutoModelForCausalLM.from_pretrained(
            folder, output_loading_info=True, dtype=torch.float32
        )
    model, odd = found
    return model.eval(), {key: value for key, value in odd.items() if value}


def logits(model: Any) -> Tensor:
    """What a model says of some tokens, more of them than the windows of the tiny models have."""
    with torch.no_grad():
        found: Tensor = model(torch.arange(1, 25)[None]).logits
    return found


def distance(found: Tensor, wanted: Tensor) -> float:
    """How far logits are apart, as a share of the largest."""
    return float((found - wanted).abs().max() / wanted.abs().max())


def config_of(folder: Path) -> dict[str, Any]:
    """The config.json of a folder."""
    found: dict[str, Any] = json.loads((folder / "config.json").read_text())
    return found


class quiet(warnings.catch_warnings):  # noqa: N801 - used as a function
    """Let transformers say nothing while it loads."""

    def __enter__(self) -> Any:
        transformers.logging.set_verbosity_error()
        transformers.logging.disable_progress_bar()
        entered = super().__enter__()
        warnings.simplefilter("ignore")
        return entered
