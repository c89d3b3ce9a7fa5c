"""Tiny tokenizers of three kinds, written by hand, and checkpoints that have them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from tiny import llama, llama_config, write_checkpoint

from mergecore.types import Json

CORPUS = ("the hat", "a tin hat in the bath", "that is it", "in a bath the hat is")
"""Text of the letters that the tokenizers know; their merges and pieces occur in it."""

LETTERS = "abehinst"
KINDS = ("BPE", "Unigram", "WordPiece")

TOKENS: Mapping[str, Sequence[str]] = {
    "BPE": ["Ġ", *LETTERS, "th", "the", "Ġthe", "at", "hat", "Ġhat", "in", "Ġin", "is"],
    "Unigram": ["<unk>", "▁", *LETTERS, "▁the", "the", "at", "▁hat", "hat", "▁in", "in", "▁is"],
    "WordPiece": [
        "[UNK]",
        *LETTERS,
        *(f"##{one}" for one in LETTERS),
        "the",
        "hat",
        "in",
        "##at",
        "##in",
        "is",
    ],
}
"""The ordinary tokens of each kind, by id."""

MERGES = ["t h", "th e", "Ġ the", "a t", "h at", "Ġ hat", "i n", "Ġ in", "i s"]


def tokenizer_json(
    kind: str, tokens: Sequence[str] | None = None, added: Sequence[str] = (), special: bool = True
) -> dict[str, Json]:
    """A tokenizer of that kind; `added` tokens get the ids after its ordinary ones."""
    tokens = TOKENS[kind] if tokens is None else tokens
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": special}
    document: dict[str, Json] = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": len(tokens) + number, "content": token, **flags} for number, token in enumerate(added)
        ],
    }
    return document | _PARTS[kind](list(tokens))


def _bpe(tokens: list[str]) -> dict[str, Json]:
    vocabulary = {token: number for number, token in enumerate(tokens)}
    known: list[Json] = [
        merge for merge in MERGES if {*merge.split(), merge.replace(" ", "")} <= vocabulary.keys()
    ]
    level: dict[str, Json] = {
        "type": "ByteLevel",
        "add_prefix_space": False,
        "trim_offsets": True,
        "use_regex": True,
    }
    model: dict[str, Json] = {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": False,
        "byte_fallback": False,
        "ignore_merges": False,
        "vocab": dict(vocabulary),
        "merges": known,
    }
    return {
        "normalizer": None,
        "pre_tokenizer": level,
        "post_processor": None,
        "decoder": level,
        "model": model,
    }


def _unigram(tokens: list[str]) -> dict[str, Json]:
    space: dict[str, Json] = {
        "type": "Metaspace",
        "replacement": "▁",
        "prepend_scheme": "always",
        "split": True,
    }
    scores: list[Json] = [[token, -2.0 if len(token) > 1 else -5.0] for token in tokens]
    model: dict[str, Json] = {
        "type": "Unigram",
        "unk_id": tokens.index("<unk>") if "<unk>" in tokens else None,
        "vocab": scores,
        "byte_fallback": False,
    }
    return {
        "normalizer": None,
        "pre_tokenizer": space,
        "post_processor": None,
        "decoder": space,
        "model": model,
    }


def _wordpiece(tokens: list[str]) -> dict[str, Json]:
    model: dict[str, Json] = {
        "type": "WordPiece",
        "unk_token": "[UNK]",
        "continuing_subword_prefix": "##",
        "max_input_chars_per_word": 100,
        "vocab": {token: number for number, token in enumerate(tokens)},
    }
    return {
        "normalizer": None,
        "pre_tokenizer": {"type": "Whitespace"},
        "post_processor": None,
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": False},
        "model": model,
    }


_PARTS = {"BPE": _bpe, "Unigram": _unigram, "WordPiece": _wordpiece}


def write_model(
    folder: Path,
    tokenizer: Mapping[str, Json] | None,
    rows: int,
    unit: float = 1.0,
    tied: bool = False,
    config: Mapping[str, Json] | None = None,
    **changes: Json,
) -> Path:
    """Write a model whose row i is (i + 1) `unit` in its embeddings, and the negative of it in its head.

    `config` is its tokenizer_config.json, `changes` go into config.json.
    """
    tensors = llama(1, value=0.0, tied=tied)
    numbers = torch.arange(1, rows + 1, dtype=torch.float32)[:, None] * unit
    for name, sign in (("model.embed_tokens.weight", 1.0), ("lm_head.weight", -1.0)):
        if name in tensors:
            tensors[name] = (sign * numbers).repeat(1, 4)
    facts = llama_config(1, vocab_size=rows, tie_word_embeddings=tied, **changes)
    write_checkpoint(folder, tensors, facts)
    if tokenizer is not None:
        (folder / "tokenizer.json").write_text(json.dumps(tokenizer, ensure_ascii=False))
        plain: Mapping[str, Json] = {"tokenizer_class": "PreTrainedTokenizerFast"}
        (folder / "tokenizer_config.json").write_text(json.dumps(config or plain))
    return folder
