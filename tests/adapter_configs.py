"""What several tests of adapters in configs share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from tiny import llama, read_tensors
from torch import Tensor

import mergecore
from mergecore import RunOptions
from mergecore.errors import MergecoreError, Problems
from mergecore.types import Json

Q = "model.layers.0.self_attn.q_proj"


UP = "model.layers.1.mlp.up_proj"


def factors(rank: int = 2, seed: int = 5) -> dict[str, Tensor]:
    """The tensors of an adapter on two layers, as PEFT names them."""
    generator = torch.Generator().manual_seed(seed)
    numbers = llama(2)
    made = {}
    for module in (Q, UP):
        out, into = numbers[f"{module}.weight"].shape
        made[f"base_model.model.{module}.lora_A.weight"] = torch.randn(rank, into, generator=generator)
        made[f"base_model.model.{module}.lora_B.weight"] = torch.randn(out, rank, generator=generator)
    return made


def write_adapter(folder: Path, tensors: dict[str, Tensor] | None = None, **config: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    save_file(factors() if tensors is None else tensors, folder / "adapter_model.safetensors")
    values = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "base_model_name_or_path": "base", **config}
    (folder / "adapter_config.json").write_text(json.dumps(values))
    return folder


def merged(*models: Json, out: str = "out", **further: Json) -> dict[str, Tensor]:
    listed: list[Json] = [{"model": model} for model in models]
    config: dict[str, Json] = {
        "merge_method": "linear",
        "models": listed,
        "parameters": {"weight": 1},
        **further,
    }
    return read_tensors(mergecore.merge(config, out, run_options=RunOptions(overwrite=True)))


def assert_refused(code: str, told: str, model: Json = "base+ad") -> None:
    with pytest.raises(MergecoreError, match=told) as caught:
        merged(model)
    first = caught.value.first if isinstance(caught.value, Problems) else caught.value
    assert (first.code, first.exit_code) == (code, 3)
    assert not Path("out").exists()
