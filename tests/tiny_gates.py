"""A tiny base for mixtures whose numbers are a formula, so that what other tools make of it can be written down."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor

TEXT = "the cat sat on a mat if x is y then z else print dog ran home def"
WORDS = ("<s>", "</s>", "<unk>", *TEXT.split())

PROMPTS: dict[str, Any] = {
    "experts": [
        {"positive_prompts": ["the cat sat on a mat", "the dog ran home"]},
        {
            "positive_prompts": ["if x is y then print z else print y", "def x"],
            "negative_prompts": ["a mat", "dog"],
        },
    ]
}
"""Prompts of several lengths, one expert with negative ones."""


def base(folder: Path) -> Path:
    """A model of Llama in float32, with its tokenizer."""
    config = transformers.LlamaConfig(
        vocab_size=len(WORDS) + 3,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=32,
        bos_token_id=0,
        eos_token_id=1,
    )
    model = transformers.LlamaForCausalLM(config)
    for number, (name, one) in enumerate(model.named_parameters()):
        one.data = _numbers(number, tuple(one.shape)) + (1.0 if "norm" in name else 0.0)
    model.save_pretrained(folder)
    write_tokenizer(folder)
    return folder


def _numbers(seed: int, shape: tuple[int, ...]) -> Tensor:
    """Numbers in ±0.5 of no visible order, the same everywhere."""
    count = torch.Size(shape).numel()
    places = torch.arange(1, count + 1, dtype=torch.float64) + 1000 * seed
    return ((places * 12.9898).sin() * 43758.5453).remainder(1.0).sub(0.5).view(shape).float()


def write_tokenizer(folder: Path, words: tuple[str, ...] = WORDS, template: str | None = None) -> None:
    """A tokenizer that knows words, and begins texts with `<s>`."""
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    document = {
        "version": "1.0",
        "added_tokens": [{"id": i, "content": word, **flags} for i, word in enumerate(words[:3])],
        "pre_tokenizer": {"type": "WhitespaceSplit"},
        "model": {
            "type": "WordLevel",
            "vocab": {word: number for number, word in enumerate(words)},
            "unk_token": words[2],
        },
    }
    settings: dict[str, Any] = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": words[0]}
    settings |= {"eos_token": words[1], "unk_token": words[2]}
    if template:
        settings["chat_template"] = template
    for name, content in (("tokenizer.json", document), ("tokenizer_config.json", settings)):
        (folder / name).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
