"""Plain models are told by config and names: exactly as transformers would, and without importing it."""

from __future__ import annotations

import json
import logging
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tiny import registry

from mergecore import Plan, plan
from mergecore.types import Json
from mergecore_architectures import plain

SIZES: dict[str, Any] = {
    "vocab_size": 24,
    "hidden_size": 8,
    "intermediate_size": 12,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 6,
    "max_position_embeddings": 32,
    "num_hidden_layers": 7,
    "pad_token_id": 0,
}
GPT2 = {
    "vocab_size": 24,
    "n_positions": 16,
    "n_embd": 8,
    "n_layer": 7,
    "n_head": 2,
    "bos_token_id": 1,
    "eos_token_id": 1,
}
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
    "rope_theta": 5e5,
}
WINDOW = {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 3}
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "Llama": ("Llama", {}),
    "Llama tied": ("Llama", {"tie_word_embeddings": True, "rope_parameters": LLAMA3}),
    "Mistral": ("Mistral", {"sliding_window": None}),
    "Granite": ("Granite", {}),
    "Qwen2": ("Qwen2", {"head_dim": 4}),
    "Qwen2 window": ("Qwen2", {"head_dim": 4, **WINDOW}),
    "Qwen3": ("Qwen3", {"tie_word_embeddings": True}),
    "Gemma": ("Gemma", {}),
    "Gemma2": ("Gemma2", {}),
    "Gemma3": ("Gemma3", {}),
    "Gemma3 of 3": ("Gemma3", {"sliding_window_pattern": 3}),
    "Phi3": ("Phi3", {"head_dim": 4}),
    "SmolLM3": ("SmolLM3", {}),
    "SmolLM3 of 3": ("SmolLM3", {"no_rope_layer_interval": 3, **WINDOW}),
    "GPT2": ("GPT2", {}),
}
RANGES: list[list[list[int]]] = [[[0, 5], [2, 7]], [[0, 6], [0, 6]], [[1, 4]], [[0, 7]], [[6, 7]]]
DERIVED = ("layer_types", "no_rope_layers", "rope_parameters", "dtype", "tie_word_embeddings")


def save(name: str, folder: Path) -> Path:
    """A tiny model of that family, with a config that says everything."""
    family, more = MODELS[name]
    suffix = "TextConfig" if family == "Gemma3" else "Config"
    sizes = GPT2 if family == "GPT2" else SIZES
    config = getattr(transformers, family + suffix)(**(sizes | more))
    torch.manual_seed(0)
    head = "LMHeadModel" if family == "GPT2" else "ForCausalLM"
    getattr(transformers, family + head)(config).save_pretrained(folder)
    return folder


def shorten(folder: Path) -> None:
    """Leave out of its config what its class derives, as older configs do."""
    path = folder / "config.json"
    config = json.loads(path.read_text())
    kept = {key: one for key, one in config.items() if key not in DERIVED or key == "tie_word_embeddings"}
    path.write_text(json.dumps(kept))


def stack(folder: Path, ranges: list[list[int]], **more: Json) -> dict[str, Json]:
    slices: list[Json] = [
        {"sources": [{"model": str(folder), "layer_range": list[Json](one)}]} for one in ranges
    ]
    return {"merge_method": "passthrough", "slices": slices, **more}


def planned(config: dict[str, Json]) -> Any:
    """Everything that a plan decides, or what is wrong."""
    try:
        made: Plan = plan(config, registry=registry())
    except Exception as error:  # noqa: BLE001  compared with that of the other way
        return str(error)
    descriptions = tuple(replace(one, by="") for one in made.descriptions)
    config_json = made.side_files["config.json"]
    return (
        made.steps,
        made.layout,
        json.loads(config_json) if isinstance(config_json, bytes) else None,
        (
            made.warnings,
            descriptions,
        ),
    )


@pytest.mark.parametrize("name", MODELS)
def test_config_and_names_say_of_plain_models_what_transformers_says(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = save(name, tmp_path / "model")
    for _ in ("a complete config", "a short one"):
        for ranges in RANGES:
            config = stack(folder, ranges)
            with monkeypatch.context() as patch:
                patch.setattr(
                    "mergecore_architectures.transformers_models._build", lambda config: pytest.fail("asked")
                )
                quick = planned(config)
            with monkeypatch.context() as patch:
                patch.setattr(plain, "lists_of", lambda *_: None)
                assert quick == planned(config), (name, ranges)
        shorten(folder)


@pytest.mark.parametrize(
    "change",
    [
        {"hidden_act": "nonsense"},
        {"pad_token_id": 24},
        {"rope_parameters": {"rope_type": "nonsense"}},
        {"hidden_size": 16},
        {"attention_bias": True},
        {"architectures": ["LlamaModel"]},
        {"architectures": ["UnheardOf"]},
        {"tie_word_embeddings": "yes"},
        {"layer_types": ["full_attention"] * 6},
        {"head_dim": 4},
        {"rms_norm_eps": "small"},
        {"num_key_value_heads": 2},
        {"model_type": "mistral"},
        {"text_config": {"hidden_size": 4}},
    ],
    ids=str,
)
def test_a_config_out_of_the_ordinary_is_left_to_transformers(
    change: dict[str, Json], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = save("Llama", tmp_path / "model")
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    config = stack(folder, [[0, 5], [2, 6]])
    asked: list[bool] = []
    from mergecore_architectures import transformers_models

    build = transformers_models._build

    def noted(config: Any) -> Any:
        asked.append(True)
        return build(config)

    monkeypatch.setattr(transformers_models, "_build", noted)
    logging.disable(logging.CRITICAL)
    found = planned(config)
    monkeypatch.setattr(plain, "lists_of", lambda *_: None)
    assert found == planned(config)
    logging.disable(logging.NOTSET)
    assert asked


PLAN = """
import sys
from pathlib import Path
from mergecore import plan
for config in sys.argv[1:]:
    plan(Path(config))
print(*sorted({name.partition(".")[0] for name in sys.modules} & {"torch", "transformers", "peft", "accelerate"}))
"""


def test_planning_a_stack_of_a_plain_family_imports_neither_torch_nor_transformers(tmp_path: Path) -> None:
    configs = []
    for name in MODELS:
        place = re.sub(r"\W", "_", name)
        folder = save(name, tmp_path / place)
        kinds: list[dict[str, Json]] = [stack(folder, [[0, 5], [2, 7]], dtype="bfloat16")]
        models: list[Json] = [{"model": str(folder), "parameters": {"weight": 0.5}}]
        kinds.append({"merge_method": "linear", "models": models, "dtype": "float16"})
        for i, config in enumerate(kinds):
            path = tmp_path / f"{place}_{i}.yml"
            path.write_text(json.dumps(config))
            configs.append(str(path))
    command = [sys.executable, "-c", PLAN, *configs]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout.strip(), run.stderr) == (0, "", "")
