"""Configs of real classes that say the same in other ways are found to mean the same."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from mergecore.planning.config_differences import differences
from mergecore.types import Checkpoint, Json, ModelReference
from mergecore_architectures.transformers import completed

KINDS = [
    "llama",
    "mistral",
    "mixtral",
    "qwen2",
    "qwen2_moe",
    "qwen3",
    "qwen3_moe",
    "gemma",
    "gemma2",
    "gemma3_text",
    "gemma3",
    "phi",
    "phi3",
    "gpt2",
    "gpt_neox",
    "gptj",
    "olmo2",
    "granite",
    "cohere",
    "cohere2",
    "deepseek_v3",
    "falcon",
    "stablelm",
    "bert",
    "modernbert",
    "t5",
    "smollm3",
    "qwen2_vl",
    "llava",
    "mamba",
    "jamba",
]


def model(name: str, config: dict[str, Any]) -> Checkpoint:
    return Checkpoint(ModelReference(name), Path(), {}, (), config)


def whole(kind: str) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(json.dumps(CONFIG_MAPPING[kind]().to_dict(), default=str))
    return {**made, "model_type": kind}


def told(one: Checkpoint, other: Checkpoint) -> list[str]:
    return [*differences([other], one, completed), *differences([one], other, completed)]


@pytest.mark.parametrize("kind", KINDS)
def test_a_default_may_be_written_or_left_out(kind: str) -> None:
    rng, full = random.Random(kind), whole(kind)
    for _ in range(3):
        part = {key: value for key, value in full.items() if key == "model_type" or rng.random() < 0.5}
        assert told(model("full", full), model("part", part)) == []


@pytest.mark.parametrize("kind", KINDS)
def test_rotary_positions_may_be_written_as_older_releases_did(kind: str) -> None:
    full = whole(kind)
    rope = full.get("rope_parameters")
    if not isinstance(rope, dict) or any(isinstance(value, dict) for value in rope.values()):
        pytest.skip("says nothing of them, or for each kind of layers")
    older = {key: value for key, value in full.items() if key not in ("rope_parameters", "layer_types")}
    older |= {key: rope[key] for key in ("rope_theta", "partial_rotary_factor") if key in rope}
    assert told(model("full", full), model("older", {**older, "rope_scaling": None})) == []
    scaled: dict[str, Json] = {"type": "linear", "factor": 2.0}
    for one in told(model("full", full), model("scaled", {**older, "rope_scaling": scaled})):
        assert "rope_" in one
    assert len(told(model("full", full), model("scaled", {**older, "rope_scaling": scaled}))) == 2


def test_a_default_that_another_model_changes_is_told() -> None:
    plain = model("plain", {"model_type": "llama"})
    (one, other) = told(plain, model("long", {"model_type": "llama", "rope_theta": 500000.0}))
    assert "rope_parameters.rope_theta 10000.0 (by default) and rope_theta 500000.0" in one
    assert "rope_theta 500000.0 and rope_parameters.rope_theta 10000.0 (by default)" in other


def test_a_class_that_nobody_knows_completes_nothing() -> None:
    assert completed(model("a", {"model_type": "unheard_of"})) is None
    assert completed(model("a", {"model_type": "llama", "num_hidden_layers": "many"})) is None
