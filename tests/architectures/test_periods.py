"""Layers whose kinds come round again: what the plan says where a stack breaks the period, and where it keeps it.

What a reader that knows only the period makes of a stack is asked of transformers: a config without the list.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import read_config, registry

from mergecore import merge, plan
from mergecore.types import Json

SIZES: dict[str, Any] = {
    "vocab_size": 16,
    "hidden_size": 8,
    "intermediate_size": 8,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 4,
    "pad_token_id": 0,
}
EXPERTS = {"num_local_experts": 2, "num_experts_per_tok": 1}
LINEAR = {
    "linear_num_value_heads": 2,
    "linear_num_key_heads": 1,
    "linear_key_head_dim": 4,
    "linear_value_head_dim": 4,
    "num_experts": 2,
    "num_experts_per_tok": 1,
    "moe_intermediate_size": 4,
    "shared_expert_intermediate_size": 4,
}
FAMILIES: dict[str, tuple[int, dict[str, Any]]] = {
    "Gemma2": (5, {}),
    "Gemma3Text": (8, {}),
    "Gemma3Text/3": (7, {"sliding_window_pattern": 3}),
    "Cohere2": (9, {}),
    "SmolLM3": (9, {}),
    "Exaone4": (8, {"sliding_window": 8}),
    "Olmo3": (8, {}),
    "GptOss": (4, EXPERTS),
    "Qwen3Next": (5, LINEAR),
    "Llama4Text": (8, {**EXPERTS, "intermediate_size_mlp": 8, "interleave_moe_layer_step": 2}),
}
LISTS = ("layer_types", "no_rope_layers", "moe_layers")
RANGES: list[list[list[int]]] = [[[0, 3], [1, 4]], [[0, 4], [0, 4]], [[0, 4], [2, 4]], [[1, 4]], [[0, 4]]]


def of(name: str, end: str) -> Any:
    return getattr(importlib.import_module("transformers"), name.split("/")[0] + end)


def save(name: str, folder: Path) -> Mapping[str, Any]:
    """Save a tiny model of a family; its config as transformers understands it."""
    layers, more = FAMILIES[name]
    config = of(name, "Config")(**{**SIZES, "num_hidden_layers": layers, **more})
    torch.manual_seed(0)
    of(name.replace("Text", ""), "ForCausalLM")(config).save_pretrained(folder)
    found: dict[str, Any] = config.to_dict()
    return found


def stack(folder: Path, *ranges: list[int]) -> dict[str, Json]:
    slices: list[Json] = [
        {"sources": [{"model": str(folder), "layer_range": list[Json](one)}]} for one in ranges
    ]
    return {"merge_method": "passthrough", "slices": slices}


def taken_for_granted(name: str, config: Mapping[str, Any], layers: int) -> dict[str, Any]:
    """The lists that follow from the period alone."""
    kept = {key: value for key, value in config.items() if key not in LISTS and key != "rope_parameters"}
    made = of(name, "Config")(**{**kept, "num_hidden_layers": layers}).to_dict()
    return {key: made[key] for key in LISTS if made.get(key)}


def picked(config: Mapping[str, Any], layers: list[int]) -> dict[str, Any]:
    """The lists of chosen layers."""
    lists = {key: config[key] for key in LISTS if config.get(key)}
    return {
        key: [i for i, one in enumerate(layers) if one in value]
        if key == "moe_layers"
        else [value[i] for i in layers]
        for key, value in lists.items()
    }


@pytest.mark.parametrize("name", FAMILIES)
def test_a_broken_period_is_told_and_only_that(name: str, tmp_path: Path) -> None:
    config = save(name, tmp_path / "m")
    for ranges in RANGES:
        layers = [layer for first, end in ranges for layer in range(first, end)]
        told = [
            one
            for one in plan(stack(tmp_path / "m", *ranges), registry=registry()).warnings
            if "period" in one
        ]
        wanted, assumed = picked(config, layers), taken_for_granted(name, config, len(layers))
        broken = [key for key, value in wanted.items() if assumed.get(key) != value]
        assert [one.split(":")[0] for one in told] == broken, (ranges, told)
        for one in told:
            start, end = (
                text.split("]")[0].split(", ") for text in one.split("such as [")[1].split(" and [")
            )
            advice = [[int(start[0]), int(start[1])], [int(end[0]), int(end[1])]]
            kept = plan(stack(tmp_path / "m", *advice), registry=registry())
            about = one.split(":")[0]
            assert not [text for text in kept.warnings if text.startswith(about)]


@pytest.mark.parametrize("name", FAMILIES)
def test_the_config_says_of_each_layer_what_it_is_and_states_no_period_that_is_gone(
    name: str, tmp_path: Path
) -> None:
    config = save(name, tmp_path / "m")
    out = merge(stack(tmp_path / "m", [0, 3], [1, 4]), tmp_path / "out", registry=registry())
    logging.getLogger("transformers").setLevel(logging.CRITICAL)
    cls = importlib.import_module("transformers").AutoModelForCausalLM
    model, told = cls.from_pretrained(out, output_loading_info=True)
    assert not any(told[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    read = model.config.to_dict()
    for key, value in picked(config, [0, 1, 2, 1, 2, 3]).items():
        assert read[key] == value
    gone = {"sliding_window_pattern", "full_attention_interval", "no_rope_layer_interval"}
    assert gone.isdisjoint(read_config(out))


def test_of_two_periods_the_one_that_holds_stays(tmp_path: Path) -> None:
    """Experts in every second layer, rope in three of four."""
    save("Llama4Text", tmp_path / "m")
    out = merge(stack(tmp_path / "m", [0, 3], [1, 4]), tmp_path / "out", registry=registry())
    assert read_config(out)["interleave_moe_layer_step"] == 2
    out = merge(stack(tmp_path / "m", [0, 4], [1, 4]), tmp_path / "more", registry=registry())
    assert "interleave_moe_layer_step" not in read_config(out)
    assert read_config(out)["moe_layers"] == [1, 3, 4, 6]


def test_the_letters_of_a_period_are_written_out(tmp_path: Path) -> None:
    """EXAONE 4 writes its period of four as LLLG."""
    save("Exaone4", tmp_path / "m")
    file = tmp_path / "m" / "config.json"
    file.write_text(
        file.read_text().replace('"sliding_window_pattern": 4', '"sliding_window_pattern": "LLLG"')
    )
    out = merge(stack(tmp_path / "m", [0, 3], [1, 4]), tmp_path / "out", registry=registry())
    assert read_config(out)["sliding_window_pattern"] == "LLLLLG"
    kept = merge(stack(tmp_path / "m", [0, 4], [0, 4]), tmp_path / "kept", registry=registry())
    assert read_config(kept)["sliding_window_pattern"] == "LLLG"


@pytest.mark.parametrize(
    ("ranges", "left"),
    [([[0, 4], [1, 4]], None), ([[0, 3], [1, 4]], 5), ([[2, 6]], 1), ([[0, 3], [0, 3]], 6)],
)
def test_a_number_of_layers_without_a_window_goes_where_they_are_not_the_first(
    ranges: list[list[int]], left: int | None, tmp_path: Path
) -> None:
    """Qwen 2, the layers from the fourth on with a window."""
    sizes = {**SIZES, "num_hidden_layers": 6, "use_sliding_window": True, "max_window_layers": 3}
    of("Qwen2", "ForCausalLM")(of("Qwen2", "Config")(**sizes, sliding_window=4)).save_pretrained(
        tmp_path / "m"
    )
    made = plan(stack(tmp_path / "m", *ranges), registry=registry())
    out = merge(stack(tmp_path / "m", *ranges), tmp_path / "out", registry=registry())
    assert read_config(out).get("max_window_layers") == left
    assert len([one for one in made.warnings if "max_window_layers can no longer" in one]) == (left is None)


def test_kinds_written_as_runs_are_read_by_transformers(tmp_path: Path) -> None:
    config = of("GPTNeo", "Config")(
        vocab_size=16, hidden_size=8, num_layers=4, num_heads=2, attention_types=[[["global", "local"], 2]]
    )
    of("GPTNeo", "ForCausalLM")(config).save_pretrained(tmp_path / "m")
    out = merge(stack(tmp_path / "m", [0, 4], [1, 4]), tmp_path / "out", registry=registry())
    model = of("GPTNeo", "ForCausalLM").from_pretrained(out)
    kinds = [layer.attn.attention_type for layer in model.transformer.h]
    assert kinds == ["global", "local", "global", "local", "local", "global", "local"]
    assert read_config(out)["attention_types"] == [[kinds, 1]]


@pytest.mark.parametrize(("ranges", "count"), [([[0, 2], [1, 2]], 1), ([[0, 2]], 0), ([[0, 1]], 0)])
def test_a_decoder_deeper_than_its_encoder_cannot_generate_with_a_cache(
    ranges: list[list[int]], count: int, tmp_path: Path
) -> None:
    config = of("T5", "Config")(
        vocab_size=16,
        d_model=8,
        d_kv=4,
        d_ff=8,
        num_heads=2,
        num_layers=2,
        num_decoder_layers=2,
        pad_token_id=0,
    )
    config.decoder_start_token_id = 0
    of("T5", "ForConditionalGeneration")(config).save_pretrained(tmp_path / "m")
    made = plan(stack(tmp_path / "m", *ranges), registry=registry())
    assert len([one for one in made.warnings if "use_cache" in one]) == count
    out = merge(stack(tmp_path / "m", *ranges), tmp_path / "out", registry=registry())
    model = of("T5", "ForConditionalGeneration").from_pretrained(out)
    ids = torch.tensor([[3, 4, 5]])
    model.generate(ids, max_new_tokens=3, use_cache=False)
    if count:
        with pytest.raises(IndexError):
            model.generate(ids, max_new_tokens=3, use_cache=True)
    else:
        model.generate(ids, max_new_tokens=3, use_cache=True)
