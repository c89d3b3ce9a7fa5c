"""Tiny checkpoints that need no network and no transformers to be written; read `tiny_model`."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias, cast

import torch
from safetensors.torch import save_file

from mergecore.testing.tiny_families import FAMILIES, Family
from mergecore.types import Json

TinyFamily: TypeAlias = Literal["llama", "moe", "bert", "vlm"]


def tiny_model(
    folder: Path | str,
    family: TinyFamily = "llama",
    seed: int = 0,
    *,
    layers: int = 2,
    dtype: str = "float32",
    value: float | None = None,
    tokens: Sequence[str] = (),
    tokenizer: bool = True,
    config: Mapping[str, Json] | None = None,
    change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]] | None = None,
) -> Path:
    """Write a tiny model that transformers loads: weights, config.json and a tokenizer; the folder.

    family: "llama" (a decoder), "moe" (a Mixtral of four experts), "bert" (an encoder with a head for masked words),
        or "vlm" (a Llava: a decoder that sees).
    seed: what the random weights depend on.  Equal seeds give equal weights of the tensors that two models share.
    layers: how many each stack of layers has.
    dtype: that of the weights, by its name in torch.
    value: every number of the weights, in place of random ones.
    tokens: further tokens at the end of the vocabulary.
    tokenizer: whether there is one.
    config: keys of config.json that are to be otherwise; shapes follow `vocab_size` and `tie_word_embeddings`.
    change: takes all tensors by name, and returns those to write.

    Raises:
        ValueError: for an unknown family.
    """
    if family not in FAMILIES:
        raise ValueError(f"there is no tiny model '{family}'; there are {', '.join(FAMILIES)}")
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    made = FAMILIES[family]
    vocabulary = [*made.tokens, *tokens]
    said = made.config(layers, len(vocabulary)) | {"torch_dtype": dtype} | dict(config or {})
    shapes = made.shapes(layers, int(cast("int", said.get("vocab_size", len(vocabulary)))))
    if said.get("tie_word_embeddings") is True:
        shapes = {name: shape for name, shape in shapes.items() if name not in made.heads}
    tensors = {name: _filled(name, shape, seed, value, dtype) for name, shape in shapes.items()}
    tensors = change(tensors) if change else tensors
    save_file(
        {name: one.contiguous() for name, one in tensors.items()},
        target / "model.safetensors",
        {"format": "pt"},
    )
    _write(target / "config.json", said)
    if tokenizer:
        _write_tokenizer(target, made, vocabulary)
    return target


def _filled(name: str, shape: tuple[int, ...], seed: int, value: float | None, dtype: str) -> torch.Tensor:
    """Numbers of the size that weights have; scales of norms lie about 1."""
    kind = getattr(torch, dtype)
    if value is not None:
        return torch.full(shape, value, dtype=kind)
    drawn = torch.Generator().manual_seed(hash_of(f"{seed} {name}"))
    numbers = 0.1 * torch.randn(shape, generator=drawn)
    return (numbers + 1 if "norm" in name.lower() and name.endswith("weight") else numbers).to(kind)


def hash_of(text: str) -> int:
    """A number below 2^63 that depends on the text alone."""
    from hashlib import sha256

    return int.from_bytes(sha256(text.encode()).digest()[:8], "big") >> 1


def _write(path: Path, document: object) -> None:
    path.write_text(json.dumps(document, ensure_ascii=False, indent=2), encoding="utf8")


def _write_tokenizer(folder: Path, family: Family, vocabulary: Sequence[str]) -> None:
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    added = [
        {"id": number, "content": token, **flags}
        for number, token in enumerate(vocabulary)
        if token in family.special
    ]
    ids = {token: number for number, token in enumerate(vocabulary)}
    document: dict[str, Any] = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": added}
    _write(folder / "tokenizer.json", document | family.tokenizer(ids))
    _write(
        folder / "tokenizer_config.json",
        {"tokenizer_class": "PreTrainedTokenizerFast", **family.special_names},
    )
