"""Two tiny Llamas to transplant tokenizers between: one has a BPE vocabulary, the other a Unigram one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import torch
from tiny import llama, llama_config, write_checkpoint
from tiny_tokenizers import TOKENS, tokenizer_json
from torch import Tensor

from mergecore.types import Json

Transplanted: TypeAlias = Callable[..., dict[str, Tensor]]

EMBED, HEAD = "model.embed_tokens.weight", "lm_head.weight"
MINE = {token: number for number, token in enumerate(TOKENS["BPE"])}
THEIRS = {token: number for number, token in enumerate(TOKENS["Unigram"])}
SHARED = {
    one: one.replace("▁", "Ġ") for one in TOKENS["Unigram"] if one.replace("▁", "Ġ") in MINE
}  # all but <unk> and ▁is


def rows(count: int, seed: int, columns: int = 4) -> Tensor:
    return torch.randn((count, columns), generator=torch.Generator().manual_seed(seed))


def write(
    folder: Path, kind: str, embed: Tensor, head: Tensor | None, named: dict[str, Json] | None = None
) -> Path:
    """A Llama with the tokenizer of that kind; without a head it is tied."""
    tied = head is None
    tensors = llama(1, seed=9, tied=tied) | {EMBED: embed} | ({} if head is None else {HEAD: head})
    write_checkpoint(folder, tensors, llama_config(1, vocab_size=len(embed), tie_word_embeddings=tied))
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer_json(kind), ensure_ascii=False))
    config: dict[str, Json] = {"tokenizer_class": "PreTrainedTokenizerFast", **(named or {})}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


def as_donor(own: Tensor) -> Tensor:
    """The rows of the donor's tokens that would be right."""
    made = torch.zeros(18, 4)
    for theirs, mine in SHARED.items():
        made[THEIRS[theirs]] = own[MINE[mine]]
    made[THEIRS["▁is"]] = own[MINE["Ġin"]] + 2 * own[MINE["at"]]
    made[THEIRS["<unk>"]] = own[MINE["Ġ"]] - own[MINE["s"]]
    return made
