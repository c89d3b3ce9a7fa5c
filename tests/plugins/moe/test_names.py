"""Tensors have the names that the loaders of vLLM and the converter of llama.cpp look for.

`LLAMA_CPP` is what the table of names of gguf makes of the modules of layer 1; its converter joins experts, and cuts
what Granite stores as one.  `VLLM` are the names that the loaders of vLLM 0.32 make tensors of their classes of, beside
those of a Llama; dots1 is as up to 0.23, FlexOlmo and Hunyuan are loaded by transformers there.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny import read_tensors, registry
from tiny_moe import build, config_of, document

import mergecore

Dense = Callable[..., Path]

LLAMA = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
}
HEAD_NORMS = {"self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm"}
EXPERTS = {
    "mlp.gate": "ffn_gate_inp",
    "mlp.experts.gate_proj": "ffn_gate_exps",
    "mlp.experts.up_proj": "ffn_up_exps",
    "mlp.experts.down_proj": "ffn_down_exps",
}
SHARED = {
    "mlp.shared_experts.gate_proj": "ffn_gate_shexp",
    "mlp.shared_experts.up_proj": "ffn_up_shexp",
    "mlp.shared_experts.down_proj": "ffn_down_shexp",
}
CORRECTED = {"mlp.gate.e_score_correction": "exp_probs_b"}
GRANITE = {
    "block_sparse_moe.router.layer": "ffn_gate_inp",
    "block_sparse_moe.input_linear": "ffn_gate_exps + ffn_up_exps",
    "block_sparse_moe.output_linear": "ffn_down_exps",
}
LLAMA_CPP: dict[str, dict[str, str]] = {
    "mixtral": {
        **LLAMA,
        "block_sparse_moe.gate": "ffn_gate_inp",
        "block_sparse_moe.experts.w1": "ffn_gate_exps",
        "block_sparse_moe.experts.w2": "ffn_down_exps",
        "block_sparse_moe.experts.w3": "ffn_up_exps",
    },
    "deepseek": {**LLAMA, **EXPERTS, **SHARED},
    "qwen2_moe": {
        **LLAMA,
        **EXPERTS,
        **{name.replace("experts", "expert"): found for name, found in SHARED.items()},
        "mlp.shared_expert_gate": "ffn_gate_inp_shexp",
    },
    "qwen3_moe": {**LLAMA, **HEAD_NORMS, **EXPERTS},
    "granitemoe": {**LLAMA, **GRANITE},
    "granitemoeshared": {
        **LLAMA,
        **GRANITE,
        "shared_mlp.input_linear": "ffn_gate_shexp + ffn_up_shexp",
        "shared_mlp.output_linear": "ffn_down_shexp",
    },
    "ernie4_5_moe": {**LLAMA, **EXPERTS, "mlp.moe_statics.e_score_correction": "exp_probs_b"},
    "dots1": {**LLAMA, **HEAD_NORMS, **EXPERTS, **SHARED, **CORRECTED},
    "glm4_moe": {
        **LLAMA,
        **EXPERTS,
        **SHARED,
        **CORRECTED,
        "post_attention_layernorm": "post_attention_norm",
    },
    "hunyuan_v1_moe": {
        **LLAMA,
        "self_attn.query_layernorm": "attn_q_norm",
        "self_attn.key_layernorm": "attn_k_norm",
        **{name.replace("shared_experts", "shared_mlp"): found for name, found in SHARED.items()},
        **{name: found for name, found in EXPERTS.items() if name != "mlp.gate"},
        "mlp.gate.wg": "ffn_gate_inp",
    },
}
VLLM = {
    "mixtral": r"block_sparse_moe\.(gate|experts\.\d\.w[123])\.weight",
    "deepseek": r"mlp\.(gate|(experts\.\d|shared_experts)\.(gate|up|down)_proj)\.weight",
    "qwen2_moe": r"mlp\.(gate|shared_expert_gate|(experts\.\d|shared_expert)\.(gate|up|down)_proj)\.weight",
    "qwen3_moe": r"mlp\.(gate|experts\.\d\.(gate|up|down)_proj)\.weight",
    "granitemoe": r"block_sparse_moe\.(input_linear|output_linear|router\.layer)\.weight",
    "granitemoeshared": r"(block_sparse_moe\.(input_linear|output_linear|router\.layer)|shared_mlp\.(in|out)put_linear)"
    r"\.weight",
    "flex_olmo": r"mlp\.(gate|experts\.\d\.(gate|up|down)_proj)\.weight",
    "ernie4_5_moe": r"mlp\.((gate|(experts\.\d|shared_experts)\.(gate|up|down)_proj)\.weight"
    r"|moe_statics\.e_score_correction_bias)",
    "dots1": r"mlp\.((gate|(experts\.\d|shared_experts)\.(gate|up|down)_proj)\.weight|gate\.e_score_correction_bias)",
    "glm4_moe": r"mlp\.((gate|(experts\.\d|shared_experts)\.(gate|up|down)_proj)\.weight"
    r"|gate\.e_score_correction_bias)",
    "hunyuan_v1_moe": r"mlp\.(gate\.wg|(experts\.\d|shared_mlp)\.(gate|up|down)_proj)\.weight",
}
ATTENTION = r"(input|post_attention|post_feedforward)_layernorm\.weight|self_attn\..*"

BASE = {
    "qwen2_moe": "qwen2",
    "qwen3_moe": "qwen3",
    "flex_olmo": "olmo2",
    "ernie4_5_moe": "ernie",
    "dots1": "qwen3",
    "hunyuan_v1_moe": "hunyuan",
}
WITH_SHARED = ("deepseek", "qwen2_moe", "granitemoeshared", "dots1", "glm4_moe", "hunyuan_v1_moe")


def suffixes(dense: Dense, family: str) -> set[str]:
    """The names of the tensors of layer 1."""
    base = dense(BASE.get(family, "llama"))
    shared = base if family in WITH_SHARED else None
    said = document(base, *[base] * 4, shared=shared, architecture=family)
    plan = mergecore.plan(said, registry=registry())
    names = {one.name for step in plan.steps for one in step.outputs}
    assert {"model.embed_tokens.weight", "model.norm.weight"} < names
    return {name.removeprefix("model.layers.1.") for name in names if name.startswith("model.layers.1.")}


@pytest.mark.parametrize("family", VLLM)
def test_every_tensor_is_one_that_vllm_looks_for(dense: Dense, family: str) -> None:
    found = suffixes(dense, family)
    assert [name for name in found if not re.fullmatch(f"{ATTENTION}|{VLLM[family]}", name)] == []
    per_expert = [name for name in found if re.search(r"experts\.\d", name)]
    assert len(per_expert) == (0 if "granite" in family else 12)


@pytest.mark.parametrize("family", LLAMA_CPP)
def test_every_tensor_is_one_that_llama_cpp_converts(dense: Dense, family: str) -> None:
    modules = {
        re.sub(r"(experts)\.\d", r"\1", name.rpartition(".")[0] or name).replace("_bias", "")
        for name in suffixes(dense, family)
        if not name.endswith("_proj.bias")
    }
    modules = {
        f"{module}.e_score_correction" if module in ("mlp.moe_statics",) else module for module in modules
    }
    if family in ("dots1", "glm4_moe"):
        modules.add("mlp.gate.e_score_correction")
    assert modules == LLAMA_CPP[family].keys()


@pytest.mark.parametrize("family", LLAMA_CPP)
def test_the_table_is_that_of_gguf(family: str) -> None:
    gguf: Any = pytest.importorskip("gguf", reason="the table of names comes with gguf")
    words = {
        "mixtral": "LLAMA",
        "deepseek": "DEEPSEEK",
        "granitemoe": "GRANITE_MOE",
        "granitemoeshared": "GRANITE_MOE",
        "hunyuan_v1_moe": "HUNYUAN_MOE",
    }
    kind = gguf.MODEL_ARCH[
        words.get(family, family.upper().replace("2_MOE", "2MOE").replace("3_MOE", "3MOE"))
    ]
    table = gguf.get_tensor_name_map(kind, 2)
    for module, wanted in LLAMA_CPP[family].items():
        if " + " not in wanted:  # the converter cuts it first
            name = re.sub(r"block_sparse_moe\.experts", "feed_forward.experts", module)
            found = table.get_name(f"layers.1.{name}" if "feed_forward" in name else f"model.layers.1.{name}")
            assert found == f"blk.1.{wanted}"


# ---- config.json -------------------------------------------------------------------------------------------


def test_config_json_says_what_classes_would_take_for_something_else(dense: Dense, tmp_path: Path) -> None:
    """Defaults of Mixtral: 8 heads of keys, theta 1e6, eps 1e-5, a window of None, eos 2."""
    import json

    base = tmp_path / "base"
    base.mkdir()
    for file in dense().iterdir():
        (base / file.name).write_bytes(file.read_bytes())
    spare = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 32}
    spare |= {"intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4, "vocab_size": 64}
    config = {
        **spare,
        "num_key_value_heads": 2,
        "eos_token_id": [2, 3],
        "unsloth_version": "2",
        "torch_dtype": "float32",
    }
    (base / "config.json").write_text(json.dumps(config))
    made = config_of(build(document(base, base, base, base), tmp_path / "out"))
    assert made["rope_theta"] == 10000.0
    assert made["rms_norm_eps"] == 1e-6
    assert made["head_dim"] == 8
    assert made["eos_token_id"] == [2, 3]
    assert made["pad_token_id"] is None
    assert made["sliding_window"] is None
    assert made["tie_word_embeddings"] is False
    assert (made["num_local_experts"], made["num_experts_per_tok"]) == (3, 2)
    assert made["torch_dtype"] == "float32"
    assert "unsloth_version" not in made


@pytest.mark.parametrize(
    ("name", "family", "wanted"),
    [
        ("mistral", "mixtral", {"sliding_window": 4}),
        ("qwen3", "qwen3_moe", {"norm_topk_prob": True, "decoder_sparse_step": 1, "mlp_only_layers": []}),
        ("qwen3", "qwen3_moe", {"moe_intermediate_size": 48, "head_dim": 8, "num_experts": 3}),
        ("granite", "granitemoe", {"embedding_multiplier": 12.0, "logits_scaling": 8.0}),
        ("llama", "granitemoe", {"attention_multiplier": 8**-0.5, "residual_multiplier": 1.0}),
        ("ernie", "ernie4_5_moe", {"moe_num_experts": 3, "moe_k": 2, "moe_layer_start_index": 0}),
        ("llama-tied", "mixtral", {"tie_word_embeddings": True, "rope_theta": 50000.0}),
    ],
)
def test_config_json_follows_the_family(
    dense: Dense, tmp_path: Path, name: str, family: str, wanted: dict[str, Any]
) -> None:
    said = document(dense(name), *[dense(name, seed) for seed in range(3)], architecture=family)
    made = config_of(build(said, tmp_path / "out"))
    assert made["model_type"] == family
    assert {key: made[key] for key in wanted} == wanted
    assert "mlp_bias" not in made
    assert all(one.isfinite().all() for one in read_tensors(tmp_path / "out").values())


def test_a_scaled_rope_is_written_as_older_readers_know_it(dense: Dense, tmp_path: Path) -> None:
    base = dense("llama-scaled")
    made = config_of(build(document(base, base, base), tmp_path / "out"))
    assert made["rope_theta"] == 500000.0
    assert (made["rope_scaling"]["rope_type"], made["rope_scaling"]["factor"]) == ("llama3", 8.0)
    assert made["rope_parameters"] == config_of(base)["rope_parameters"]
