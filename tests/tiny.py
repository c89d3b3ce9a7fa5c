"""Tiny models to merge: tensors of a two-headed Llama, checkpoints on disk, and what is in a folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from hashlib import sha256
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from mergecore.plugins.registry import Registry
from mergecore.types import Json

HIDDEN, INNER, VOCABULARY = 4, 6, 8


def llama(layers: int, value: float | None = None, seed: int = 0, tied: bool = False) -> dict[str, Tensor]:
    """The tensors of a Llama, all `value` or normal numbers; without a head where it is tied."""
    generator = torch.Generator().manual_seed(seed)
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (VOCABULARY, HIDDEN)}
    for layer in range(layers):
        prefix = f"model.layers.{layer}."
        shapes[prefix + "input_layernorm.weight"] = (HIDDEN,)
        shapes |= {f"{prefix}self_attn.{part}_proj.weight": (HIDDEN, HIDDEN) for part in "qkvo"}
        shapes[prefix + "post_attention_layernorm.weight"] = (HIDDEN,)
        shapes |= {f"{prefix}mlp.{part}_proj.weight": (INNER, HIDDEN) for part in ("gate", "up")}
        shapes[prefix + "mlp.down_proj.weight"] = (HIDDEN, INNER)
    shapes["model.norm.weight"] = (HIDDEN,)
    if not tied:
        shapes["lm_head.weight"] = (VOCABULARY, HIDDEN)
    if value is not None:
        return {name: torch.full(shape, value) for name, shape in shapes.items()}
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def llama_config(layers: int, **changes: Json) -> dict[str, Json]:
    """A config.json that transformers accepts for `llama(layers)`."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": HIDDEN,
        "intermediate_size": INNER,
        "num_hidden_layers": layers,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "vocab_size": VOCABULARY,
        "tie_word_embeddings": False,
        "torch_dtype": "float32",
        **changes,
    }


def write_checkpoint(
    folder: Path, tensors: Mapping[str, Tensor], config: Mapping[str, Json] | None = None
) -> Path:
    """Write a checkpoint of one file; the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config or {"model_type": "llama"}))
    return folder


def write_llama(
    folder: Path, layers: int, value: float | None = None, seed: int = 0, **changes: Json
) -> Path:
    """Write a Llama checkpoint; `changes` go into its config."""
    tied = changes.get("tie_word_embeddings") is True
    return write_checkpoint(folder, llama(layers, value, seed, tied), llama_config(layers, **changes))


def read_tensors(folder: Path) -> dict[str, Tensor]:
    """All tensors of a checkpoint."""
    return {
        name: one for file in sorted(folder.glob("*.safetensors")) for name, one in load_file(file).items()
    }


def read_config(folder: Path) -> dict[str, Json]:
    """config.json of a checkpoint."""
    config: dict[str, Json] = json.loads((folder / "config.json").read_text())
    return config


def listing(folder: Path) -> dict[str, str]:
    """Everything below a folder: digests of files, link targets, `folder`."""
    return {
        str(path.relative_to(folder)): f"link to {path.readlink()}"
        if path.is_symlink()
        else "folder"
        if path.is_dir()
        else sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
    }


@cache
def registry() -> Registry:
    """The installed plugins, found once for all tests."""
    return Registry.discover()
