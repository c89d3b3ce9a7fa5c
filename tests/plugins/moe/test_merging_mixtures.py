"""Mixtures are merged as all models are, whether their experts lie in tensors of their own or in one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import read_tensors, registry
from tiny_moe import build, distance, document, loaded, logits

import mergecore

Dense = Callable[..., Path]
PARTS = {"w1": ("gate_up_proj", 0), "w3": ("gate_up_proj", 1), "w2": ("down_proj", 0)}


@pytest.fixture
def pair(dense: Dense, tmp_path: Path) -> tuple[Path, Path]:
    """Two mixtures of the same shape: `hub` with a tensor for each expert, `fused` with one for all."""
    said = [document(dense("llama", seed), *(dense("llama", seed + i) for i in (1, 2, 3))) for seed in (0, 4)]
    return build(said[0], tmp_path / "hub"), build(
        {**said[1], "layout": "fused", "seed": 1}, tmp_path / "fused"
    )


@pytest.mark.parametrize("base", ["hub", "fused"])
def test_layouts_may_be_mixed(pair: tuple[Path, Path], tmp_path: Path, base: str) -> None:
    """0.25 of the one and 0.75 of the other; the output has the names of the model that comes first."""
    order = pair if base == "hub" else pair[::-1]
    weights = (0.25, 0.75)
    models: Any = [
        {"model": str(one), "parameters": {"weight": weight}}
        for one, weight in zip(order, weights, strict=True)
    ]
    out = mergecore.merge({"merge_method": "linear", "models": models}, tmp_path / "out", registry=registry())

    hub, fused, made = read_tensors(pair[0]), read_tensors(pair[1]), read_tensors(out)
    assert made.keys() == read_tensors(order[0]).keys()
    ours, theirs = weights if base == "hub" else weights[::-1]
    for layer in range(3):
        prefix = f"model.layers.{layer}"
        for expert in range(3):
            for part, (name, half) in PARTS.items():
                mine = hub[f"{prefix}.block_sparse_moe.experts.{expert}.{part}.weight"]
                whole = fused[f"{prefix}.mlp.experts.{name}"][expert]
                other = whole if name == "down_proj" else whole.chunk(2)[half]
                if base == "hub":
                    found = made[f"{prefix}.block_sparse_moe.experts.{expert}.{part}.weight"]
                else:
                    whole = made[f"{prefix}.mlp.experts.{name}"][expert]
                    found = whole if name == "down_proj" else whole.chunk(2)[half]
                assert torch.allclose(found, ours * mine + theirs * other, atol=1e-6)
        routers = hub[f"{prefix}.block_sparse_moe.gate.weight"], fused[f"{prefix}.mlp.gate.weight"]
        name = "block_sparse_moe" if base == "hub" else "mlp"
        assert torch.allclose(
            made[f"{prefix}.{name}.gate.weight"], ours * routers[0] + theirs * routers[1], atol=1e-6
        )
    assert loaded(out)[1] == {}


def test_a_merge_of_equal_mixtures_in_two_layouts_is_that_mixture(dense: Dense, tmp_path: Path) -> None:
    said = document(dense(), dense("llama", 1), dense("llama", 2))
    hub = build(said, tmp_path / "hub")
    fused = build({**said, "layout": "fused"}, tmp_path / "fused")
    models: Any = [{"model": str(hub)}, {"model": str(fused)}]
    out = mergecore.merge(
        {"merge_method": "karcher", "models": models}, tmp_path / "out", registry=registry()
    )
    assert distance(logits(loaded(out)[0]), logits(loaded(hub)[0])) < 1e-5
