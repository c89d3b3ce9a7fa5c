"""Mixtures of tiny models are those of mergekit 0.1.5, as `benchmarks/moe_peer.py` has noted them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from benchmarks.moe_peer import CASES, FIGURES, digest, document, is_gate, ours

NOTED: dict[str, Any] = json.loads(FIGURES.read_text())


@pytest.mark.parametrize(("family", "name"), CASES)
def test_all_tensors_but_routers_are_equal_bit_by_bit(tmp_path: Path, family: str, name: str) -> None:
    made = ours(document(tmp_path, family, name, "random"), family, tmp_path / "out")
    noted = NOTED[f"{family}-{name}-random"]
    assert (digest(made), len(made)) == (noted["digest"], noted["tensors"])


@pytest.mark.parametrize("mode", ["cheap_embed", "hidden"])
@pytest.mark.parametrize(("family", "name"), [("mixtral", "llama"), ("qwen2_moe", "qwen2")])
def test_routers_of_prompts_are_equal(tmp_path: Path, family: str, name: str, mode: str) -> None:
    """By embeddings exactly; by hidden states of a base that both run in float32, to 1e-5."""
    made = ours(document(tmp_path, family, name, mode), family, tmp_path / "out")
    noted = NOTED[f"{family}-{name}-{mode}"]
    assert digest(made) == noted["digest"]
    assert {key for key in made if is_gate(key)} == noted["gates"].keys()
    for key, numbers in noted["gates"].items():
        found, wanted = made[key][:, :4], torch.tensor(numbers)
        assert (
            torch.equal(found, wanted) if mode == "cheap_embed" else torch.allclose(found, wanted, atol=1e-5)
        )
