"""What may stand for a model in the document of a mixture, and what comes along with the base."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from tiny import read_tensors, registry
from tiny_moe import build, config_of, document, loaded, quiet

import mergecore
from mergecore.types import ModelReference

Dense = Callable[..., Path]


def test_an_expert_may_be_a_base_with_an_adapter(dense: Dense, tmp_path: Path) -> None:
    """The numbers are those of PEFT's own merge."""
    base, _ = loaded(dense())
    config = LoraConfig(r=2, lora_alpha=4, target_modules=["up_proj", "down_proj", "q_proj"])
    with quiet():
        adapted: Any = get_peft_model(base, config)
        for name, one in adapted.named_parameters():
            if "lora_" in name:
                one.data = torch.randn(one.shape, generator=torch.Generator().manual_seed(len(name)))
        adapted.save_pretrained(tmp_path / "lora")
        merged = adapted.merge_and_unload().state_dict()
    said = document(dense(), dense("llama", 1))
    said["experts"] = [
        {"source_model": f"{dense()}+{tmp_path / 'lora'}"},
        {"source_model": str(dense("llama", 1))},
    ]

    made = read_tensors(build(said, tmp_path / "out"))

    for layer in range(3):
        for ours, theirs in (("w1", "gate"), ("w2", "down"), ("w3", "up")):
            found = made[f"model.layers.{layer}.block_sparse_moe.experts.0.{ours}.weight"]
            assert torch.allclose(found, merged[f"model.layers.{layer}.mlp.{theirs}_proj.weight"], atol=1e-6)
        queries = f"model.layers.{layer}.self_attn.q_proj.weight"
        assert torch.equal(
            made[queries], read_tensors(dense())[queries]
        )  # of an expert only the blocks are used


def test_the_base_may_have_an_adapter_too(dense: Dense, tmp_path: Path) -> None:
    base, _ = loaded(dense())
    with quiet():
        adapted: Any = get_peft_model(
            base, LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False)
        )
        adapted.save_pretrained(tmp_path / "lora")
        merged = adapted.merge_and_unload().state_dict()
    said = document(Path(f"{dense()}+{tmp_path / 'lora'}"), dense("llama", 1), dense("llama", 2))
    made = read_tensors(build(said, tmp_path / "out"))
    name = "model.layers.2.self_attn.q_proj.weight"
    assert torch.allclose(made[name], merged[name], atol=1e-6)


def test_experts_of_other_formats_are_rounded_once(dense: Dense, tmp_path: Path) -> None:
    half = tmp_path / "half"
    tensors = {name: one.bfloat16() for name, one in read_tensors(dense("llama", 1)).items()}
    half.mkdir()
    save_file(tensors, half / "model.safetensors")
    config = {**config_of(dense()), "torch_dtype": "bfloat16"}
    (half / "config.json").write_text(json.dumps(config))
    name = "model.layers.0.block_sparse_moe.experts.{}.w1.weight"

    wide = read_tensors(build(document(dense(), dense(), half), tmp_path / "wide"))
    assert wide[name.format(1)].dtype == torch.float32
    assert torch.equal(wide[name.format(1)], tensors["model.layers.0.mlp.gate_proj.weight"].float())

    said = document(half, dense(), half)
    narrow = read_tensors(build({**said, "layout": "fused"}, tmp_path / "narrow"))
    wanted = read_tensors(dense())["model.layers.0.mlp.gate_proj.weight"].bfloat16()
    assert torch.equal(narrow["model.layers.0.mlp.experts.gate_up_proj"][0, :48], wanted)
    assert {one.dtype for one in narrow.values()} == {torch.bfloat16}
    assert config_of(tmp_path / "narrow")["torch_dtype"] == "bfloat16"

    asked = read_tensors(build({**said, "dtype": "float16"}, tmp_path / "asked"))
    assert {one.dtype for one in asked.values()} == {torch.float16}
    assert config_of(tmp_path / "asked")["torch_dtype"] == "float16"


def test_a_base_without_a_head_module_in_its_names_is_a_base(dense: Dense, tmp_path: Path) -> None:
    """Checkpoints of `LlamaModel` have no `model.` in front, and old ones have frequencies of positions."""
    tensors = {name.removeprefix("model."): one for name, one in read_tensors(dense("llama-tied")).items()}
    for layer in range(3):
        tensors[f"layers.{layer}.self_attn.rotary_emb.inv_freq"] = torch.ones(4)
    bare = tmp_path / "bare"
    bare.mkdir()
    save_file(tensors, bare / "model.safetensors")
    (bare / "config.json").write_text(json.dumps(config_of(dense("llama-tied"))))
    made = read_tensors(build(document(bare, bare, dense("llama", 1)), tmp_path / "out"))
    assert "model.layers.2.self_attn.q_proj.weight" in made
    assert not any("inv_freq" in name for name in made)
    assert loaded(tmp_path / "out")[1] == {}


def test_a_model_of_an_unknown_type_is_taken_for_what_its_tensors_are(dense: Dense, tmp_path: Path) -> None:
    """What its config does not say is as in a Llama: as many heads of keys as of queries."""
    folder = tmp_path / "unknown"
    folder.mkdir()
    config = {key: config_of(dense())[key] for key in ("hidden_size", "num_hidden_layers", "vocab_size")}
    config |= {"model_type": "wibble", "architectures": ["WibbleForCausalLM"], "num_attention_heads": 4}
    tensors = read_tensors(dense())
    for name, one in tensors.items():
        if "k_proj" in name or "v_proj" in name:
            tensors[name] = torch.cat([one, one])
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config))
    plan = mergecore.plan(document(folder, folder, folder), registry=registry())
    assert (
        "whether MixtralForCausalLM computes the same as WibbleForCausalLM was not checked: nothing that is installed "
        "knows models of the type wibble"
    ) in plan.warnings
    made = config_of(mergecore.execute(plan, tmp_path / "out", registry=registry()))
    assert (made["num_key_value_heads"], made["hidden_act"], made["rope_theta"]) == (4, "silu", 10000.0)
    assert loaded(tmp_path / "out")[1] == {}


def test_a_family_that_nobody_asked_comes_with_a_warning(dense: Dense) -> None:
    """ERNIE has the tensors of a Llama, and turns neighbouring numbers: as Mixtral it would say something else."""
    base = dense("ernie")
    assert not any(
        "was not checked" in one for one in mergecore.plan(document(base, base), registry=registry()).warnings
    )
    plan = mergecore.plan(document(base, base, check=False), registry=registry())
    text = "whether MixtralForCausalLM computes the same as Ernie4_5ForCausalLM was not checked: 'check' is false"
    assert text in plan.warnings


def test_an_expert_may_be_what_another_document_makes(dense: Dense, tmp_path: Path) -> None:
    """The mean of two models, as an expert and as the base."""
    text = f"""
name: mean
merge_method: linear
models: [{{model: {dense("llama", 1)}}}, {{model: {dense("llama", 2)}}}]
parameters: {{weight: 1}}
---
base_model: mean
gate_mode: random
experts: [{{source_model: mean}}, {{source_model: {dense()}}}]
"""
    config = tmp_path / "moe.yml"
    config.write_text(text)
    made = read_tensors(mergecore.merge(config, tmp_path / "out", registry=registry()))
    one, two = (read_tensors(dense("llama", seed)) for seed in (1, 2))
    for name, wanted in (
        ("block_sparse_moe.experts.0.w3.weight", "mlp.up_proj.weight"),
        ("self_attn.o_proj.weight", "self_attn.o_proj.weight"),
    ):
        mean = (one[f"model.layers.1.{wanted}"] + two[f"model.layers.1.{wanted}"]) / 2
        assert torch.allclose(made[f"model.layers.1.{name}"], mean, atol=1e-6)


def test_side_files_come_from_the_base_and_the_card_names_all(dense: Dense, tmp_path: Path) -> None:
    base = tmp_path / "base"
    base.mkdir()
    for file in dense().iterdir():
        (base / file.name).write_bytes(file.read_bytes())
    (base / "generation_config.json").write_text('{"eos_token_id": 2, "temperature": 0.7}')
    (base / "chat_template.jinja").write_text("{{ messages }}")
    said = {**document(base, dense("llama", 1), dense("llama", 2)), "name": "Pair"}
    out = build(said, tmp_path / "out")
    assert json.loads((out / "generation_config.json").read_text())["temperature"] == 0.7
    assert (out / "chat_template.jinja").read_text() == "{{ messages }}"
    card = (out / "README.md").read_text()
    assert "# Pair\n\nmergecore made this mixture of 2 experts, a model of the family `mixtral`, of `" in card
    listed = [line for line in card.splitlines() if line.startswith("* `")]
    assert [Path(line.strip("* `")).name for line in listed] == [
        dense("llama", 1).name,
        dense("llama", 2).name,
    ]
    assert "- moe\n" in card
    manifest = json.loads((out / "mergecore-manifest.json").read_text())
    assert len(manifest["models"]) == 3


def test_what_is_not_used_is_listed_with_its_reason(dense: Dense) -> None:
    plan = mergecore.plan(document(dense(), dense("llama", 1), dense("llama", 2)), registry=registry())
    reasons = {one.model: (len(one.names), one.reason) for one in plan.dropped}
    assert reasons == {
        0: (9, "it gives all but the feed-forward blocks"),
        1: (21, "only its feed-forward blocks are used"),
        2: (21, "only its feed-forward blocks are used"),
    }
    assert isinstance(plan.models[0].reference, ModelReference)


def test_an_expert_that_is_nowhere_else_may_be_shared(dense: Dense, tmp_path: Path) -> None:
    said = document(dense(), dense(), dense("llama", 1), shared=dense("llama", 2), architecture="qwen2_moe")
    made = read_tensors(build(said, tmp_path / "out"))
    name = "model.layers.0.mlp.shared_expert.up_proj.weight"
    assert torch.equal(made[name], read_tensors(dense("llama", 2))["model.layers.0.mlp.up_proj.weight"])
    assert not made["model.layers.0.mlp.shared_expert.down_proj.weight"].any()
    assert not made["model.layers.0.self_attn.q_proj.bias"].any()


def test_other_threads_give_the_same_bytes(dense: Dense, tmp_path: Path) -> None:
    said = document(dense(), dense("llama", 1), dense("llama", 2), layout="fused")
    said["experts"] = [{**one, "noise_scale": 0.1} for one in said["experts"]]  # type: ignore[union-attr, dict-item]
    found = []
    for threads in (1, 3):
        how = mergecore.RunOptions(threads=threads)
        out = mergecore.merge(said, tmp_path / str(threads), registry=registry(), run_options=how)
        found.append((out / "model.safetensors").read_bytes())
    assert found[0] == found[1]
