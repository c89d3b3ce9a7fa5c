"""Two made-up languages, and tiny models that speak them: a base that knows both, and an expert for each.

Half of the words are in both languages, so a single word does not tell which one is spoken; what comes before it does.
Read `train`.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

LANGUAGES = ("north", "south")
SHARED, OWN = 20, 20
"""Words of both languages, and words of one alone."""
LENGTH = 24
"""Words of a sentence."""
FOLLOWERS = 3
"""Words that may follow a word."""

WORDS = (
    "<s>",
    "</s>",
    *(f"w{number}" for number in range(SHARED)),
    *(f"{language[0]}{number}" for language in LANGUAGES for number in range(OWN)),
)


@dataclass(frozen=True)
class Schedule:
    """How long and how fast to train."""

    base_steps: int = 500
    base_rate: float = 3e-3
    tune_steps: int = 250
    tune_rate: float = 1e-3
    batch: int = 32
    width: int = 64
    layers: int = 4


def sentences(language: str, count: int, seed: int) -> list[str]:
    """Sentences of a language: each word is followed by one of a few, and so on."""
    number = LANGUAGES.index(language)
    own = [word for word in WORDS if word.startswith(language[0])]
    words = [*(word for word in WORDS if word.startswith("w")), *own]
    grammar = random.Random(f"grammar {number}")
    follows = {word: grammar.sample(words, FOLLOWERS) for word in words}
    chance = random.Random(f"{language} {seed}")
    spoken = []
    for _ in range(count):
        said = [chance.choice(words)]
        while len(said) < LENGTH:
            said.append(chance.choice(follows[said[-1]]))
        spoken.append(" ".join(said))
    return spoken


def ids(texts: Sequence[str]) -> Tensor:
    """Sentences as ids of tokens, (sentences, 1 + LENGTH), begin included."""
    known = {word: number for number, word in enumerate(WORDS)}
    return torch.tensor([[0, *(known[word] for word in text.split())] for text in texts])


def train(out: Path, schedule: Schedule, seed: int = 0) -> None:
    """Write `out/base`, and `out/<language>` for each language."""
    torch.manual_seed(seed)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(WORDS),
            hidden_size=schedule.width,
            intermediate_size=2 * schedule.width,
            num_hidden_layers=schedule.layers,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=64,
            bos_token_id=0,
            eos_token_id=1,
        )
    )
    _fit(model, LANGUAGES, schedule.base_steps, schedule.base_rate, schedule.batch)
    _save(model, out / "base")
    for language in LANGUAGES:
        tuned = LlamaForCausalLM.from_pretrained(out / "base", dtype=torch.float32)
        _fit(tuned, (language,), schedule.tune_steps, schedule.tune_rate, schedule.batch)
        _save(tuned, out / language)


def _fit(model: LlamaForCausalLM, heard: Sequence[str], steps: int, rate: float, batch: int) -> None:
    """Let a model hear sentences of the languages; only its feed-forward blocks learn where it hears a single one."""
    learning = [one for name, one in model.named_parameters() if len(heard) > 1 or ".mlp." in name]
    optimizer = torch.optim.AdamW(learning, lr=rate, weight_decay=0.01)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1.0, (step + 1) / 30) * (1 - 0.9 * step / steps)
        each = batch // len(heard)
        tokens = torch.cat([ids(sentences(one, each, seed=step)) for one in heard])
        loss = model(input_ids=tokens, labels=tokens).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def _save(model: LlamaForCausalLM, folder: Path) -> None:
    model.save_pretrained(folder)
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    tokenizer = {
        "version": "1.0",
        "added_tokens": [{"id": i, "content": word, **flags} for i, word in enumerate(WORDS[:2])],
        "pre_tokenizer": {"type": "WhitespaceSplit"},
        "model": {
            "type": "WordLevel",
            "vocab": {word: number for number, word in enumerate(WORDS)},
            "unk_token": WORDS[1],
        },
    }
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": WORDS[0], "eos_token": WORDS[1]}
    for name, document in (("tokenizer.json", tokenizer), ("tokenizer_config.json", settings)):
        (folder / name).write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
