"""What `mergecore plan` prints."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import llama, llama_config, registry, write_checkpoint, write_llama

from mergecore import ConfigError, MergeMethod, Plan, plan
from mergecore.cli.show_plan import plan_as_json, plan_as_text
from mergecore.engine.memory import Estimate, estimate
from mergecore.types.plans import PlanOptions

MEMORY = Estimate(2, 10_000_000, 0)
Q = "model.layers.1.self_attn.q_proj.weight"


@pytest.fixture(autouse=True)
def _models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for seed, name in enumerate(("base", "a", "b")):
        write_llama(tmp_path / "m" / name, 2, seed=seed)
    monkeypatch.chdir(tmp_path)


def ties(**options: Any) -> Plan:
    config: dict[str, Any] = {
        "merge_method": "ties",
        "base_model": "m/base",
        "models": [
            {"model": "m/a", "parameters": {"weight": [0, 1], "density": 0.5}},
            {"model": "m/b", "parameters": {"weight": 1 / 3}},
        ],
        "dtype": "bfloat16",
        "seed": 7,
    }
    return plan(config, registry=registry(), options=PlanOptions(**options))


def stacked() -> Plan:
    sources = [("m/a", 0, 2), ("m/b", 1, 2), ("m/a", 0, 1)]
    slices: list[Any] = [
        {"sources": [{"model": name, "layer_range": [first, end]}]} for name, first, end in sources
    ]
    return plan({"merge_method": "passthrough", "slices": slices}, registry=registry())


def test_a_plan_shows_models_output_and_memory() -> None:
    assert plan_as_text(ties(), MEMORY) == (
        "models\n"
        "  m/base: llama, 21 tensors, 3.39 kB, F32, 2 × model.layers; gives config and side files\n"
        "  m/a: llama, 21 tensors, 3.39 kB, F32, 2 × model.layers\n"
        "  m/b: llama, 21 tensors, 3.39 kB, F32, 2 × model.layers\n"
        "\n"
        "output\n"
        "  21 tensors: 21 ties\n"
        "  2.71 kB of bfloat16 in model.safetensors\n"
        "  about 251 MB of memory with 2 workers\n"
        "  seed 7"
    )


def test_a_tensor_is_shown_with_its_sources_and_parameters() -> None:
    shown = plan_as_text(ties(), MEMORY, "layers.1.*q_proj").split("seed 7\n\n")[1]
    lines = shown.split("\n")
    assert lines[:5] == [
        f"{Q} [4, 4] bfloat16, attn.q, layer 2 of 2 (t = 1)",
        "  ties",
        f"  base m/base: {Q} F32",
        f"  from m/a: {Q} F32",
        f"  from m/b: {Q} F32",
    ]
    assert lines[5].startswith("  with ")
    for part in ("weight [1, 0.333333]", "density [0.5, 1]", "normalize true", "lambda 1"):
        assert part in lines[5]
    assert len(lines) == 6


def test_stacked_layers_are_shown_as_runs() -> None:
    shown = plan_as_text(stacked(), MEMORY)
    assert (
        "layers model.layers.*\n"
        "  0 to 1 from layers 0 to 1 of m/a\n"
        "  2 from layer 1 of m/b\n"
        "  3 from layer 0 of m/a\n"
        "  4 layers in all\n"
    ) in shown
    assert shown.endswith(
        "not in the output\n"
        "  m/b: 2 tensors (lm_head.weight, …): tensors outside the layers come from the last slice\n"
        "  m/b: 1 tensor (model.embed_tokens.weight): tensors outside the layers come from the first slice\n"
        "  m/b: 9 tensors (model.layers.0.input_layernorm.weight, …): no slice takes this layer"
    )


def test_what_is_dropped_is_shown_with_the_reason() -> None:
    write_checkpoint(Path("m/b"), {**llama(2), "extra": torch.ones(1)}, llama_config(2))
    shown = plan_as_text(ties(unexpected="drop"), MEMORY)
    assert "not in the output\n  m/b: 1 tensor (extra): the base, or else the first model, lacks it" in shown
    shown = plan_as_text(ties(unexpected="copy"), MEMORY, "extra")
    assert "22 tensors: 21 ties, 1 copied" in shown
    assert shown.endswith("  copied: the base, or else the first model, lacks it\n  from m/b: extra F32")


def test_warnings_are_shown() -> None:
    shown = plan_as_text(replace(ties(), warnings=("mind the gap",)), MEMORY)
    assert shown.endswith("seed 7\n\nwarnings\n  mind the gap")


def test_shards_are_shown() -> None:
    assert "in model-00001-of-00003.safetensors … model-00003-of-00003.safetensors" in plan_as_text(
        ties(shard_size=300), MEMORY
    )


def test_names_cannot_steer_the_terminal() -> None:
    made = ties()
    output = replace(made.steps[0].outputs[0], name="x\x1b[2Jy")
    evil = replace(made.steps[0], outputs=(output,))
    shown = plan_as_text(replace(made, steps=(evil,), warnings=("w\rx",)), MEMORY, "x")
    assert "\x1b" not in shown
    assert "\r" not in shown
    assert "x\\x1b[2Jy" in shown


def test_a_plan_of_another_recipe_has_no_descriptions() -> None:
    assert "m/a: unknown family, 21 tensors" in plan_as_text(replace(ties(), descriptions=()), MEMORY)


def test_a_pattern_that_matches_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match="no output tensor matches 'q_prj'") as caught:
        plan_as_text(ties(), MEMORY, "q_prj")
    assert caught.value.code == "E105"
    assert "the first is 'model.embed_tokens.weight'" in str(caught.value)


def test_facts_for_programs_are_plain_values() -> None:
    facts = json.loads(json.dumps(plan_as_json(ties(), MEMORY, "q_proj")))
    assert facts["models"][1] == {"reference": "m/a", "revision": None, "tensors": 21}
    assert (facts["primary"], facts["workers"], facts["peak_memory"]) == ("m/base", 2, MEMORY.peak)
    assert facts["files"] == [{"name": "model.safetensors", "size": facts["bytes"]}]
    assert [tensor["name"] for tensor in facts["tensors"]] == [Q.replace("1", "0"), Q]
    last = facts["tensors"][1]
    assert (last["dtype"], last["shape"], last["method"], last["t"]) == ("BF16", [4, 4], "ties", 1)
    assert (last["base"], last["inputs"]) == (f"m/base: {Q} F32", [f"m/a: {Q} F32", f"m/b: {Q} F32"])
    assert last["parameters"]["weight"] == [1, 1 / 3]
    assert len(plan_as_json(ties(), MEMORY)["tensors"]) == 21  # type: ignore[arg-type]


def test_stacked_layers_are_facts_too() -> None:
    facts = plan_as_json(stacked(), MEMORY)
    assert facts["layers"] == {"model.layers.": [["m/a", 0], ["m/a", 1], ["m/b", 1], ["m/a", 0]]}


# ---- memory ------------------------------------------------------------------------------------------------


def memory(made: Plan, threads: int | None, bound: int | None) -> Estimate:
    methods = {"ties": registry().get(MergeMethod, "ties")}
    return estimate(made, methods, threads, bound)


def test_a_bound_decides_how_many_workers_there_are() -> None:
    made = ties()
    one = memory(made, 1, None)
    assert memory(made, 8, None).workers == 8
    assert memory(made, 8, one.peak).workers == 1
    assert memory(made, 8, one.peak + 2 * one.per_worker).workers == 3
    assert memory(made, 2, one.peak + 9 * one.per_worker).workers == 2
    assert memory(made, None, None).workers >= 1


def test_a_bound_that_not_even_one_worker_keeps_is_refused() -> None:
    with pytest.raises(
        Exception,
        match=r"needs about \d+ MB with one worker, Python and torch included; --max-memory allows 2 MB",
    ) as caught:
        memory(ties(), 4, 2_000_000)
    assert getattr(caught.value, "code", None) == "E405"
