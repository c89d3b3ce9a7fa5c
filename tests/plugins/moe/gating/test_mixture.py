"""Whole mixtures whose routers are made of prompts."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import tiny_gates
import torch
import transformers
from fixture_types import Cli
from gate_passes import layers_of
from safetensors.torch import load_file

import mergecore
from mergecore import RunOptions

EXPERTS: list[Any] = tiny_gates.PROMPTS["experts"]


def document(base: Path, **changes: Any) -> dict[str, Any]:
    return {
        "base_model": str(base),
        "allow_identical": True,
        "experts": [{"source_model": str(base), **one} for one in EXPERTS],
        **changes,
    }


def routers(folder: Path, word: str = "gate.weight") -> list[torch.Tensor]:
    tensors = load_file(folder / "model.safetensors")
    return [tensors[name] for name in sorted(tensors) if name.endswith(word)]


@pytest.mark.parametrize("mode", ["hidden", "hidden_avg", "cheap_embed", "router_input"])
def test_routers_are_written_where_the_family_has_them(mode: str, base: Path, tmp_path: Path) -> None:
    mergecore.merge(document(base, gate_mode=mode), tmp_path / "out")
    found = routers(tmp_path / "out", "block_sparse_moe.gate.weight")
    wanted = layers_of(base, gate_mode=mode, experts=EXPERTS)
    assert all(torch.equal(a, b.rows) for a, b in zip(found, wanted, strict=True))
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert type(model).__name__ == "MixtralForCausalLM"


def test_the_manifest_says_how_much_alike_rows_are(base: Path, tmp_path: Path) -> None:
    mergecore.merge(document(base, gate_mode="hidden_avg"), tmp_path / "out")
    facts = json.loads((tmp_path / "out" / "mergecore-manifest.json").read_text())["facts"]
    wanted = [one.condition for one in layers_of(base, gate_mode="hidden_avg", experts=EXPERTS)]
    assert facts["router_condition_numbers"] == pytest.approx(wanted, abs=1e-3)
    assert facts["layers_with_like_experts"] == [i for i, one in enumerate(wanted) if one and one > 5]


def test_bytes_do_not_depend_on_threads_or_processes(base: Path, tmp_path: Path) -> None:
    said = document(base, gate_mode="router_input", dtype="bfloat16")
    for name, options in {
        "one": RunOptions(threads=1),
        "four": RunOptions(threads=4),
        "apart": RunOptions(threads=2, executor="processes"),
    }.items():
        mergecore.merge(said, tmp_path / name, run_options=options)
    written = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("one", "four", "apart")]
    assert written[0] == written[1] == written[2]


def test_a_shared_expert_with_a_gate_gets_the_row_of_its_prompts(base: Path, tmp_path: Path) -> None:
    shared = {"source_model": str(base), "positive_prompts": ["the dog ran home"]}
    said = document(base, architecture="qwen2_moe", shared_experts=[shared])
    mergecore.merge(said, tmp_path / "out")
    wanted = layers_of(base, gate_mode="hidden", experts=EXPERTS, shared_experts=[shared_prompts(shared)])
    for layer, rows in enumerate(routers(tmp_path / "out", "mlp.gate.weight")):
        assert torch.equal(rows, wanted[layer].rows[:2])
    for layer, rows in enumerate(routers(tmp_path / "out", "shared_expert_gate.weight")):
        assert torch.equal(rows, wanted[layer].rows[2:])


def shared_prompts(shared: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in shared.items() if key.endswith("prompts")}


def test_other_prompts_in_a_file_are_another_model(base: Path, tmp_path: Path, cli: Cli) -> None:
    """What is written of a run that was stopped is not taken over, and the manifests differ."""
    prompts = tmp_path / "prompts.txt"
    digests = []
    for text in ("the cat sat", "the dog ran"):
        prompts.write_text(text)
        experts = [
            {"source_model": str(base), "positive_prompts": {"file": str(prompts)}},
            {"source_model": str(base), "positive_prompts": ["if x"]},
        ]
        mergecore.merge(document(base, experts=experts), tmp_path / text)
        manifest = json.loads((tmp_path / text / "mergecore-manifest.json").read_text())
        digests.append((manifest["fingerprint"], manifest["made_of_sha256"]))
    assert digests[0][0] != digests[1][0]
    assert digests[0][1] != digests[1][1]


def test_the_plan_shows_what_routers_are_made_of(base: Path, tmp_path: Path, cli: Cli) -> None:
    (tmp_path / "moe.json").write_text(json.dumps(document(base, gate_mode="router_input")))
    outcome = cli("plan", tmp_path / "moe.json", "--tensor", "gate")
    assert outcome.code == 0
    assert "router_input: from 6 prompts, 31 tokens" in outcome.out


@pytest.mark.filterwarnings("ignore::FutureWarning")  # PEFT asks for what transformers calls otherwise by now
def test_a_base_with_an_adapter_is_run_with_it(base: Path, tmp_path: Path) -> None:
    import peft

    model: Any = transformers.AutoModelForCausalLM.from_pretrained(base)
    chosen: Any = peft.LoraConfig(r=2, target_modules=["q_proj", "down_proj"], init_lora_weights=False)
    peft.get_peft_model(model, chosen).save_pretrained(tmp_path / "adapter")
    together = f"{base}+{tmp_path / 'adapter'}"
    found = layers_of(together, gate_mode="hidden", experts=EXPERTS)
    said = document(base)
    said["base_model"] = together
    mergecore.merge(said, tmp_path / "out")
    assert all(torch.equal(a, b.rows) for a, b in zip(routers(tmp_path / "out"), found, strict=True))
    alone = layers_of(base, gate_mode="hidden", experts=EXPERTS)
    assert not torch.allclose(found[1].rows, alone[1].rows, atol=1e-3)


def test_settings_that_random_routers_do_not_look_at_are_told(base: Path) -> None:
    plan = mergecore.plan(document(base, gate_mode="random", top1_share=0.8, chat_prompts=True))
    assert "top1_share has no effect with 'gate_mode: random'" in plan.warnings
    assert "chat_prompts has no effect with 'gate_mode: random'" in plan.warnings


def test_a_base_without_a_tokenizer_makes_random_routers(base: Path, tmp_path: Path) -> None:
    shutil.copytree(base, tmp_path / "mute", ignore=shutil.ignore_patterns("tokenizer*"))
    mergecore.merge(document(tmp_path / "mute", gate_mode="random"), tmp_path / "out")
    routers = [
        one
        for name, one in load_file(tmp_path / "out" / "model.safetensors").items()
        if name.endswith("gate.weight")
    ]
    assert all(bool(one.any()) for one in routers)
    assert len(routers) == 2
