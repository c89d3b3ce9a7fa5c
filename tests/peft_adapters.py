"""Tiny models with adapters that PEFT itself has made, and what PEFT makes of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import peft
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

SMALL: dict[str, Any] = {
    "vocab_size": 97,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}


def llama(tied: bool = False) -> Any:
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**SMALL, tie_word_embeddings=tied))


def qwen2() -> Any:
    """Its queries, keys and values have biases."""
    return transformers.Qwen2ForCausalLM(transformers.Qwen2Config(**SMALL, tie_word_embeddings=False))


def gpt2() -> Any:
    """Its weights are stored as (in, out)."""
    shape: dict[str, Any] = {"vocab_size": 97, "n_embd": 48, "n_layer": 2, "n_head": 4, "n_positions": 32}
    return transformers.GPT2LMHeadModel(transformers.GPT2Config(**shape))


def mixtral() -> Any:
    """Its experts are stacked in memory, and single tensors on disk."""
    return transformers.MixtralForCausalLM(transformers.MixtralConfig(**SMALL, num_local_experts=4))


def t5() -> Any:
    shape: dict[str, Any] = {
        "vocab_size": 97,
        "d_model": 48,
        "d_kv": 12,
        "d_ff": 80,
        "num_layers": 2,
        "num_heads": 4,
    }
    return transformers.T5ForConditionalGeneration(transformers.T5Config(**shape))


def bert() -> Any:
    shape = {key: SMALL[key] for key in SMALL if key != "num_key_value_heads"}
    config: Any = transformers.BertConfig
    return transformers.BertForSequenceClassification(config(**shape, num_labels=3))


def llava() -> Any:
    """Sees: its names on disk are not those of its modules."""
    vision = {
        "model_type": "clip_vision_model",
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
    }
    vision |= {"num_attention_heads": 4, "image_size": 16, "patch_size": 8, "projection_dim": 16}
    config = transformers.LlavaConfig(
        text_config={"model_type": "llama", **SMALL}, vision_config=vision, image_token_index=96
    )
    return transformers.LlavaForConditionalGeneration(config)


class Layers(nn.Module):
    """One layer of every kind that PEFT puts adapters on; nothing runs it."""

    def __init__(self) -> None:
        super().__init__()
        from transformers.pytorch_utils import Conv1D

        self.lin0 = nn.Linear(10, 20)
        self.lin1 = nn.Linear(20, 2)
        self.emb = nn.Embedding(100, 5)
        self.conv1d = Conv1D(7, 5)
        self.seq = nn.Conv1d(3, 8, 3)
        self.conv2d = nn.Conv2d(5, 10, 3)
        self.conv3d = nn.Conv3d(5, 10, 3)
        self.mha = nn.MultiheadAttention(12, 2)
        self.point2d = nn.Conv2d(5, 10, 1)


@dataclass(frozen=True)
class Pair:
    """A base and an adapter, each in its folder."""

    base: Path
    adapter: Path
    kind: Any

    @property
    def reference(self) -> str:
        """As a config names both."""
        return f"{self.base}+{self.adapter}"

    def loaded(self, dtype: torch.dtype = torch.float32) -> Any:
        """The base as transformers loads it, with the adapter as PEFT puts it on, not merged."""
        base = self.kind.from_pretrained(self.base, dtype=dtype)
        return peft.PeftModel.from_pretrained(base, str(self.adapter)).eval()


def write_pair(
    folder: Path, make: Callable[[], Any], config: peft.PeftConfig, dtype: torch.dtype = torch.float32
) -> Pair:
    """A random model and a random adapter for it, as PEFT saves them."""
    torch.manual_seed(1)
    model = make().to(dtype)
    model.save_pretrained(folder / "base")
    kind = type(model)
    torch.manual_seed(2)
    adapted = peft.get_peft_model(kind.from_pretrained(folder / "base", dtype=dtype), config)
    _train(adapted)
    adapted.save_pretrained(str(folder / "adapter"))
    return Pair(folder / "base", folder / "adapter", kind)


def _train(model: Any) -> None:
    """Change every number that training would change."""
    for _, parameter in model.named_parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data + torch.randn_like(parameter) * 0.05


def merged_by_peft(pair: Pair, folder: Path, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """The tensors that PEFT's own merge saves."""
    pair.loaded(dtype).merge_and_unload().save_pretrained(folder)
    return tensors_of(folder)


def tensors_of(folder: Path) -> dict[str, Tensor]:
    """All tensors of a folder."""
    return {
        name: one for file in sorted(folder.glob("*.safetensors")) for name, one in load_file(file).items()
    }


def layers_pair(folder: Path, config: peft.PeftConfig) -> tuple[Pair, dict[str, Tensor]]:
    """A model of plain torch layers with an adapter, and the tensors after PEFT's own merge."""
    torch.manual_seed(1)
    (folder / "base").mkdir(parents=True)
    base = Layers()
    numbers = {name: one.detach().clone() for name, one in base.state_dict().items()}
    save_file(numbers, folder / "base" / "model.safetensors")
    adapted = peft.get_peft_model(base, config)
    _train(adapted)
    adapted.save_pretrained(str(folder / "adapter"))
    merged = {name: one.contiguous() for name, one in adapted.merge_and_unload().state_dict().items()}
    return Pair(folder / "base", folder / "adapter", Layers), merged
