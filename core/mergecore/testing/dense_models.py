"""Tiny dense models that mixtures are made of: those of the kinds of layers that families have; read `DENSE`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch

from mergecore.testing.checkpoints import hash_of, tiny_model
from mergecore.testing.tiny_families import HEADS, HIDDEN
from mergecore.types import Json

_HEAD = HIDDEN // HEADS


@dataclass(frozen=True)
class Dense:
    """How the layer of a dense model differs from that of a Llama.

    norms: further ones, with their sizes.  without: what it lacks.
    """

    architecture: str
    config: Mapping[str, Json] = field(default_factory=dict)
    norms: Mapping[str, int] = field(default_factory=dict)
    without: tuple[str, ...] = ()


DENSE: Mapping[str, Dense] = {
    "llama": Dense("LlamaForCausalLM"),
    "qwen3": Dense(
        "Qwen3ForCausalLM", {"head_dim": _HEAD}, {"self_attn.q_norm": _HEAD, "self_attn.k_norm": _HEAD}
    ),
    "olmo2": Dense(
        "Olmo2ForCausalLM",
        norms={"self_attn.q_norm": HIDDEN, "self_attn.k_norm": HIDDEN, "post_feedforward_layernorm": HIDDEN},
        without=("input_layernorm",),
    ),
    "ernie4_5": Dense("Ernie4_5ForCausalLM", {"head_dim": _HEAD}),
    "hunyuan_v1_dense": Dense(
        "HunYuanDenseV1ForCausalLM",
        {"head_dim": _HEAD},
        {"self_attn.query_layernorm": _HEAD, "self_attn.key_layernorm": _HEAD},
    ),
}
"""By `model_type`."""


def dense_model(folder: Path, kind: str, seed: int) -> Path:
    """Write a tiny dense model; the folder."""
    made = DENSE[kind]
    config: dict[str, Json] = {"model_type": kind, "architectures": [made.architecture], **made.config}
    return tiny_model(folder, seed=seed, config=config, change=partial(_changed, made, seed))


def _changed(made: Dense, seed: int, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors of a Llama, with the norms of a dense model in each layer."""
    kept = {name: one for name, one in tensors.items() if not name.endswith(_endings(made.without))}
    for layer in sorted({name.split(".")[2] for name in tensors if name.startswith("model.layers.")}):
        for norm, size in made.norms.items():
            name = f"model.layers.{layer}.{norm}.weight"
            drawn = torch.Generator().manual_seed(hash_of(f"{seed} {name}"))
            kept[name] = 1 + 0.1 * torch.randn(size, generator=drawn)
    return kept


def _endings(norms: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f".{norm}.weight" for norm in norms)
