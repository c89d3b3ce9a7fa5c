"""Random settings of LoRA on random families: merged numbers are those of PEFT's own merge, bit for bit.

`MERGECORE_FUZZ_ADAPTERS=500 pytest tests/plugins/lora/test_random_adapters.py` tries more of them.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from peft import LoraConfig
from peft_adapters import bert, gpt2, llama, llava, merged_by_peft, mixtral, qwen2, t5, tensors_of, write_pair

import mergecore
from mergecore import RunOptions
from mergecore.types import Json

pytestmark = pytest.mark.filterwarnings("ignore")
"""PEFT and transformers warn of each other."""

COUNT = int(os.environ.get("MERGECORE_FUZZ_ADAPTERS", "16"))
LLAMA = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
FAMILIES: dict[str, tuple[Callable[[], Any], list[str], list[str], list[str]]] = {
    "llama": (llama, LLAMA, ["embed_tokens", "lm_head"], ["model.norm", "lm_head", "embed_tokens"]),
    "qwen2": (qwen2, LLAMA, ["embed_tokens", "lm_head"], ["model.norm", "lm_head"]),
    "gpt2": (gpt2, ["c_attn", "c_proj", "c_fc"], ["wpe"], ["ln_f", "wpe"]),
    "mixtral": (
        mixtral,
        ["q_proj", "k_proj", "v_proj", "o_proj"],
        ["embed_tokens", "lm_head"],
        ["model.norm"],
    ),
    "t5": (t5, ["q", "k", "v", "o", "wi", "wo"], [], ["decoder.final_layer_norm"]),
    "bert": (bert, ["query", "key", "value", "dense"], ["word_embeddings"], ["pooler"]),
    "llava": (llava, ["q_proj", "v_proj", "fc1", "linear_1"], [], ["linear_2"]),
}
"""Families: layers, tables of tokens, and what may be saved whole."""


def drawn(seed: int) -> tuple[Callable[[], Any], LoraConfig, str]:
    """A family and settings, and both in words."""
    pick = random.Random(seed)
    family = pick.choice(sorted(FAMILIES))
    make, layers, tables, whole = FAMILIES[family]
    targets = pick.sample(layers, pick.randint(1, len(layers)))
    targets += [one for one in tables if pick.random() < 0.25]
    free = [one for one in whole if one not in targets]
    settings: dict[str, Any] = {
        "r": pick.randint(1, 9),
        "lora_alpha": pick.choice([1, 4, 7.5, 16]),
        "use_rslora": pick.random() < 0.3,
        "use_dora": pick.random() < 0.3,
        "target_modules": targets,
        "rank_pattern": {one: pick.randint(1, 6) for one in targets if pick.random() < 0.3},
        "alpha_pattern": {one: pick.randint(1, 20) for one in targets if pick.random() < 0.3},
        "bias": pick.choice(["none", "none", "all", "lora_only"]),
        "modules_to_save": pick.sample(free, min(len(free), pick.choice([0, 0, 1]))) or None,
        "fan_in_fan_out": family == "gpt2" and pick.random() < 0.5,
        "init_lora_weights": pick.choice([True, False, "gaussian", "orthogonal"]),
    }
    if family in ("llama", "qwen2", "mixtral") and pick.random() < 0.3:
        settings["layers_to_transform"] = [pick.randint(0, 1)]
        settings["target_modules"] = [one for one in targets if one in layers]
    if family == "llama" and "embed_tokens" not in targets and pick.random() < 0.3:
        settings["trainable_token_indices"] = sorted(pick.sample(range(97), 3))
    if family == "mixtral" and pick.random() < 0.5:
        settings["target_parameters"] = ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]
        settings["use_dora"] = False
        settings["init_lora_weights"] = True  # PEFT has no other way to begin there
    if settings["init_lora_weights"] == "orthogonal":
        settings["r"], settings["rank_pattern"] = 2 * settings["r"], {}
    kept = settings["modules_to_save"] or []
    if "embed_tokens" in kept:
        settings.pop("trainable_token_indices", None)
    return make, LoraConfig(**settings), f"{family}: {settings}"


@pytest.mark.parametrize("seed", range(COUNT))
def test_any_adapter_is_merged_as_peft_does(seed: int, tmp_path: Path) -> None:
    make, config, said = drawn(seed)
    pair = write_pair(tmp_path, make, config)
    document: dict[str, Json] = {"merge_method": "passthrough", "models": [{"model": pair.reference}]}
    made = tensors_of(mergecore.merge(document, tmp_path / "out", run_options=RunOptions(threads=1)))
    wanted = merged_by_peft(pair, tmp_path / "peft")
    assert made.keys() == wanted.keys(), said
    apart = {name: float((made[name] - wanted[name]).abs().max()) for name in wanted}
    assert not {name: far for name, far in apart.items() if far}, said
