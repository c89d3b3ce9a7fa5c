"""Tensors that loaders make themselves may be missing, and are never averaged."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from workshop import Workshop

from mergecore.planning.tensors.matching import is_buffer
from mergecore.types import Stored, TensorInfo

IDS = torch.arange(8)[None]
MASK = torch.tril(torch.ones(8, 8))[None, None]


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    monkeypatch.chdir(tmp_path)
    made = Workshop(tmp_path)
    for name in "ab":
        made.model(name)
    return made


def add(shop: Workshop, name: str, tensors: Mapping[str, Any]) -> None:
    file = shop.folder / name / "model.safetensors"
    save_file({**load_file(file), **{key: one.clone() for key, one in tensors.items()}}, file)


@pytest.mark.parametrize("who", ["a", "b", "ab"])
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("embeddings.position_ids", IDS),
        ("embeddings.token_type_ids", 0 * IDS),
        ("model.layers.0.self_attn.rotary_emb.inv_freq", torch.tensor([0.1, 0.7])),
        ("model.layers.0.attn.bias", MASK),
        ("model.layers.0.attn.masked_bias", torch.tensor(-1e4)),
        ("bn.num_batches_tracked", torch.tensor(7)),
    ],
)
def test_a_buffer_is_taken_from_whoever_has_it(shop: Workshop, who: str, name: str, value: Any) -> None:
    for model in who:
        add(shop, model, {name: value})
    made = load_file(shop.merge(shop.config(dtype="bfloat16", base=None)) / "model.safetensors")[name]
    assert made.dtype == value.dtype
    assert (made == value).all()


def test_buffers_that_differ_are_those_of_the_first(shop: Workshop) -> None:
    add(shop, "a", {"bn.num_batches_tracked": torch.tensor(7), "rotary_emb.inv_freq": torch.tensor([1.0])})
    add(
        shop,
        "b",
        {"bn.num_batches_tracked": torch.tensor(9), "rotary_emb.inv_freq": torch.tensor([2.0, 3.0])},
    )
    made = load_file(shop.merge(shop.config()) / "model.safetensors")
    assert made["bn.num_batches_tracked"].item() == 7
    assert made["rotary_emb.inv_freq"].tolist() == [1]


def test_what_only_sounds_like_a_buffer_must_be_there(shop: Workshop) -> None:
    add(shop, "a", {"model.layers.0.attn.bias": torch.zeros(4)})
    assert "E231 1 tensor missing in b: 'model.layers.0.attn.bias'" in shop.refusal(shop.config())


@pytest.mark.parametrize(
    ("name", "dtype", "shape", "expected"),
    [
        ("h.0.attn.bias", "BOOL", (1, 1, 1024, 1024), True),
        ("transformer.h.0.attn.attention.bias", "U8", (1, 1, 8, 8), True),
        ("gpt_neox.layers.0.attention.bias", "BOOL", (1, 1, 8, 8), True),
        ("h.0.attn.bias", "F32", (64,), False),
        ("attn.proj.bias", "F32", (1, 1, 8, 8), False),
        ("text_model.embeddings.position_ids", "I64", (1, 77), True),
        ("transformer.rotary_pos_emb.inv_freq", "F16", (32,), True),
        ("encoder.layers.0.blocks.0.attn.relative_position_index", "I64", (49, 49), True),
        ("bn.running_mean", "F32", (8,), False),
        ("embeddings.position_embeddings.weight", "F32", (8, 4), False),
        ("my_position_ids", "I64", (1, 8), False),
    ],
)
def test_buffers_are_known_by_name_and_shape(
    name: str, dtype: str, shape: tuple[int, ...], expected: bool
) -> None:
    assert is_buffer(TensorInfo(name, Stored(name, dtype, shape, Path("m"), 0))) is expected
