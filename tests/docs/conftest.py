"""Tiny Llama checkpoints with tokenizers, under the names that the pages use."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from tiny import HIDDEN, llama, llama_config, write_checkpoint
from tiny_tokenizers import tokenizer_json
from torch import Tensor
from training_runs import write_run


@pytest.fixture(scope="session")
def tiny_llamas(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `base` and its fine-tunes `code` and `math`, of four layers each; and others."""
    folder = tmp_path_factory.mktemp("models")
    base = llama(4)
    for seed, name in enumerate(("base", "code", "math")):
        moved = {key: base[key] + 0.1 * seed * one for key, one in llama(4, seed=seed).items()}
        write_checkpoint(folder / name, moved, llama_config(4))
        added = ["<s>", "<|user|>" if name == "math" else "</s>"]
        (folder / name / "tokenizer.json").write_text(json.dumps(tokenizer_json("BPE", "aehint", added)))
    write_adapter(folder / "style", "q_proj", 2)
    write_adapter(folder / "tone", "v_proj", 3)
    write_run(folder / "run", 1000, 1500, 2000, 2500, 3000, tokens=4000)
    return folder


def write_adapter(folder: Path, target: str, rank: int) -> None:
    """A LoRA adapter of `base`, on one module of each layer."""
    tensors: dict[str, Tensor] = {}
    for layer in range(4):
        module = f"base_model.model.model.layers.{layer}.self_attn.{target}"
        tensors |= {
            f"{module}.lora_A.weight": torch.ones(rank, HIDDEN),
            f"{module}.lora_B.weight": torch.ones(HIDDEN, rank),
        }
    folder.mkdir()
    save_file(tensors, folder / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": 2, "base_model_name_or_path": "base"}
    (folder / "adapter_config.json").write_text(json.dumps(config))
