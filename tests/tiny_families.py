"""Tiny models of many families, each with a fine-tune of which every number is another one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers as t

COMMON: dict[str, Any] = {
    "vocab_size": 40,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}
KEYS: dict[str, Any] = {**COMMON, "num_key_value_heads": 1}
SPARSE: dict[str, Any] = {**KEYS, "num_local_experts": 3, "num_experts_per_tok": 2}
BERT: dict[str, Any] = {**COMMON, "max_position_embeddings": 32}
CLASSES: dict[str, Any] = {"num_labels": 3}
NO_TEXT: dict[str, Any] = {"bos_token_id": 0, "eos_token_id": 0}

FAMILIES: dict[str, Callable[[], Any]] = {
    "llama": lambda: t.LlamaForCausalLM(t.LlamaConfig(**KEYS)),
    "llama-tied": lambda: t.LlamaForCausalLM(t.LlamaConfig(**KEYS, tie_word_embeddings=True)),
    "llama-without-head": lambda: t.LlamaModel(t.LlamaConfig(**KEYS)),
    "llama-of-classes": lambda: t.LlamaForSequenceClassification(
        t.LlamaConfig(**KEYS, **CLASSES, pad_token_id=0)
    ),
    "qwen2": lambda: t.Qwen2ForCausalLM(t.Qwen2Config(**KEYS)),
    "gpt2": lambda: t.GPT2LMHeadModel(
        t.GPT2Config(vocab_size=40, n_embd=16, n_layer=2, n_head=2, n_positions=32, **NO_TEXT)
    ),
    "mixtral": lambda: t.MixtralForCausalLM(t.MixtralConfig(**SPARSE)),
    "gpt-oss": lambda: t.GptOssForCausalLM(
        t.GptOssConfig(**SPARSE, head_dim=8, layer_types=["full_attention"] * 2, **NO_TEXT)
    ),
    "bert": lambda: t.BertForMaskedLM(t.BertConfig(**BERT)),
    "bert-of-classes": lambda: t.BertForSequenceClassification(t.BertConfig(**BERT, **CLASSES)),
    "t5": lambda: t.T5ForConditionalGeneration(
        t.T5Config(vocab_size=40, d_model=16, d_kv=8, d_ff=24, num_layers=2, num_heads=2)
    ),
    "bart": lambda: t.BartForConditionalGeneration(
        t.BartConfig(
            vocab_size=40,
            d_model=16,
            encoder_layers=1,
            decoder_layers=1,
            encoder_ffn_dim=24,
            decoder_ffn_dim=24,
            encoder_attention_heads=2,
            decoder_attention_heads=2,
            max_position_embeddings=32,
        )
    ),
    "switch": lambda: t.SwitchTransformersForConditionalGeneration(
        t.SwitchTransformersConfig(
            vocab_size=40, d_model=16, d_kv=8, d_ff=24, num_layers=2, num_heads=2, num_experts=2
        )
    ),
    "vit": lambda: t.ViTForImageClassification(
        t.ViTConfig(
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=24,
            image_size=8,
            patch_size=4,
        )
    ),
    "convnext": lambda: t.ConvNextForImageClassification(
        t.ConvNextConfig(hidden_sizes=[8, 8, 8, 8], depths=[1, 1, 1, 1], image_size=32, patch_size=4)
    ),
    "mamba": lambda: t.MambaForCausalLM(
        t.MambaConfig(vocab_size=40, hidden_size=16, num_hidden_layers=2, state_size=4)
    ),
}

TWO_SIDED = ("t5", "bart", "switch")
"""Families of an encoder and a decoder, with one table of tokens for both and the head."""


def filled(family: str, seed: int) -> Any:
    """A model of random numbers."""
    model = FAMILIES[family]().eval()
    drawn = torch.Generator().manual_seed(seed)
    for one in model.parameters():
        one.data = 0.2 * torch.randn(one.shape, generator=drawn)
    return model


def written(family: str, base: Path, finetuned: Path) -> tuple[Any, Any]:
    """A base and a fine-tune, in these folders and in memory."""
    models = filled(family, 1), filled(family, 2)
    for model, folder in zip(models, (base, finetuned), strict=True):
        model.save_pretrained(folder)
    return models


def example(family: str) -> dict[str, torch.Tensor]:
    """What a model of the family is asked."""
    if family in ("vit", "convnext"):
        size = 8 if family == "vit" else 32
        return {"pixel_values": torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(3))}
    asked = {"input_ids": torch.arange(1, 21)[None]}
    return {**asked, "decoder_input_ids": torch.arange(5)[None]} if family in TWO_SIDED else asked


def answer(model: Any, asked: dict[str, torch.Tensor]) -> torch.Tensor:
    """The logits, or the last hidden states where there is no head."""
    with torch.no_grad():
        numbers: torch.Tensor = model(**asked)[0]
    return numbers
