"""A model with the BPE tokenizer and a donor with the Unigram tokenizer, both of four columns."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny import read_tensors
from tiny_transplant import Transplanted, as_donor, rows, write
from torch import Tensor

import mergecore
from mergecore.types import Json


@pytest.fixture
def rotation() -> Tensor:
    """An orthogonal matrix (4, 4)."""
    matrix: Tensor = torch.linalg.qr(rows(4, seed=3).to(torch.float64)).Q
    return matrix.to(torch.float32)


@pytest.fixture
def pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rotation: Tensor) -> tuple[Tensor, Tensor]:
    """The folders `a`, the model, and `b`, the donor; and the embeddings and the head of the model.

    The donor's rows are those of the model, turned; ▁is is ▁in + 2 at there, <unk> has a row of its own.
    """
    monkeypatch.chdir(tmp_path)
    embed, head = rows(18, seed=1), rows(18, seed=2)
    write(Path("a"), "BPE", embed, head)
    write(Path("b"), "Unigram", as_donor(embed) @ rotation, as_donor(head) @ rotation, {"unk_token": "<unk>"})
    return embed, head


@pytest.fixture
def transplanted(pair: tuple[Tensor, Tensor]) -> Transplanted:
    """A function that gives `a` the tokenizer of `b`, and returns the tensors."""

    def transplant(out: str = "out", seed: int = 0, **asked: Json) -> dict[str, Tensor]:
        document: dict[str, Json] = {"transplant": {"model": "a", "donor": "b", **asked}, "seed": seed}
        return read_tensors(mergecore.merge(document, out))

    return transplant
