"""Small adapters written by hand, and configs that merge them into an adapter."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from mergecore.types import Json

Q, K = "model.layers.0.self_attn.q_proj", "model.layers.0.self_attn.k_proj"
START = "base_model.model."


def pair(module: str, rank: int = 2, out: int = 4, into: int = 4, seed: int = 3) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        f"{START}{module}.lora_A.weight": torch.randn(rank, into, generator=generator),
        f"{START}{module}.lora_B.weight": torch.randn(out, rank, generator=generator),
    }


def write(name: str, tensors: Mapping[str, Tensor] | None = None, **config: Any) -> str:
    folder = Path(name)
    folder.mkdir()
    save_file(dict(pair(Q) if tensors is None else tensors), folder / "adapter_model.safetensors")
    values = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "base_model_name_or_path": "base", **config}
    (folder / "adapter_config.json").write_text(json.dumps(values))
    return name


def document(*adapters: Json, method: str = "linear", **more: Any) -> dict[str, Any]:
    output = {"writer": "peft", **more.pop("output", {})}
    models = [
        {"model": {"adapter": one} if isinstance(one, str) else one, "parameters": {"weight": 1}}
        for one in adapters
    ]
    return {"merge_method": method, "models": models, "output": output, **more}
