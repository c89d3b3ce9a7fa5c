"""Configs of real classes that say the same in other ways are found to mean the same."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from mergecore.planning.meaning.config_differences import differences
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
    "esm",
    "whisper",
    "qwen2_5_vl",
    "dory",
    "hrm_text",
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


@pytest.mark.parametrize(
    ("kind", "ours", "theirs", "differ"),
    [
        ("mistral", {}, {"sliding_window": None}, True),  # 4096 by default
        ("mistral", {}, {"sliding_window": 4096}, False),
        ("gemma2", {}, {"attn_logit_softcapping": None}, True),  # 50 by default
        ("gpt_neox", {}, {"use_parallel_residual": False}, True),  # true by default
        ("llama", {}, {"attention_bias": False, "head_dim": None}, False),
        ("llama", {}, {"attention_bias": True}, True),
        ("phi", {}, {"partial_rotary_factor": 0.4}, True),  # 0.5 by default
        ("falcon", {"alibi": True}, {}, True),
        ("mpt", {"attn_config": {"alibi": False}}, {"attn_config": None}, True),
        ("granite", {"attention_multiplier": 0.01}, {}, True),
        ("bert", {}, {"hidden_act": "relu"}, True),
        ("smollm3", {"no_rope_layers": [1, 1, 1, 0]}, {"no_rope_layers": [1, 1, 1, 1]}, True),
        (
            "qwen2",
            {"sliding_window": 4096, "use_sliding_window": True, "max_window_layers": 2},
            {"sliding_window": 4096, "use_sliding_window": True, "max_window_layers": 1},
            True,
        ),
        ("qwen2", {"sliding_window": 4096}, {"sliding_window": 131072, "use_sliding_window": False}, False),
        (
            "gemma3_text",
            {
                "rope_theta": 1e6,
                "rope_local_base_freq": 1e4,
                "rope_scaling": {"factor": 8, "rope_type": "linear"},
            },
            {
                "rope_parameters": {
                    "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
                    "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
                }
            },
            False,
        ),
        # keys that no class declares
        ("llama", {"is_causal": False}, {}, True),
        ("llama", {"is_causal": True}, {}, False),
        ("llama", {"is_causal": False}, {"is_causal": True}, True),
        ("gpt2", {"is_causal": False}, {}, True),
        ("gemma3", {"text_config": {"is_causal": False}}, {}, True),
        ("bert", {"is_causal": False}, {}, False),  # does not read it
        ("mixtral", {"sliding_window": 128}, {}, True),
        ("llama", {"sliding_window": 128}, {}, False),  # does not read it
        ("gemma3_text", {"use_bidirectional_attention": True}, {}, True),
        ("llama", {"rope_scaling": None}, {}, False),
        ("llama", {"rope_scaling": {"type": "linear", "factor": 2.0}}, {}, True),
        ("qwen2", {"use_sliding_window": False}, {}, False),
        ("esm", {"token_dropout": True}, {}, True),
        ("gemma3", {"mm_tokens_per_image": 64}, {}, True),
        ("qwen2_5_vl", {"vision_config": {"tokens_per_second": 2}}, {}, True),
        ("gemma3", {"text_config": {"rope_theta": 1e6}}, {"text_config": {"rope_theta": 5e5}}, True),
    ],
)
def test_what_null_and_a_lacking_key_stand_for_is_what_the_class_says(
    kind: str, ours: dict[str, Json], theirs: dict[str, Json], differ: bool
) -> None:
    size = {"hidden_size": 64, "num_attention_heads": 4, "num_hidden_layers": 4} if kind != "mpt" else {}
    one, other = (
        model(name, {"model_type": kind, **size, **own}) for name, own in (("a", ours), ("b", theirs))
    )
    assert len(told(one, other)) == (2 if differ else 0)
