"""DeepSeek-MoE, and families with its kind of experts: dots1 and GLM-4.5, whose attention is as in Qwen3 or Llama."""

from __future__ import annotations

from dataclasses import replace

from mergecore import MoeFamily
from mergecore.types import ExpertNames, Json, Mixture
from mergecore_plugins.moe.families.common import (
    ALL_BIASES,
    BIASES,
    EXPERTS,
    FUSED,
    HEAD_NORMS,
    LLAMA,
    as_they_are,
    each,
    has_biases,
    inner,
    no_windows,
    whole_heads,
    whole_rope,
    window_keys,
)


def _config(mixture: Mixture) -> dict[str, Json]:
    return {
        "n_routed_experts": mixture.experts,
        "n_shared_experts": mixture.shared_experts or None,
        "num_experts_per_tok": mixture.experts_per_token,
        "moe_intermediate_size": inner(mixture),
        "first_k_dense_replace": 0,
        "norm_topk_prob": True,
        "routed_scaling_factor": 1.0,
    }


# ---- the first DeepSeek-MoE --------------------------------------------------------------------------------


def _first(mixture: Mixture) -> dict[str, Json]:
    return {
        **_config(mixture),
        "moe_layer_freq": 1,
        "scoring_func": "softmax",
        "aux_loss_alpha": 0.001,
        "seq_aux": True,
        "attention_bias": False,
        "pretraining_tp": 1,
    }


_NAMES = ExpertNames(router="mlp.gate.weight", experts=EXPERTS, shared=each("mlp.shared_experts"))

deepseek = MoeFamily(
    name="deepseek",
    title="DeepSeek MoE",
    architecture="DeepseekForCausalLM",
    layer=LLAMA,
    names=_NAMES,
    shared_experts=(0, None),
    config=_first,
    faults=lambda mixture: [*no_windows(mixture), *whole_heads(mixture), *whole_rope(mixture)],
    proved_by="mixtral",
    note="llama.cpp loads deepseek as it is; transformers and vLLM only with the code of "
    "deepseek-ai/deepseek-moe-16b-base, which auto_map in config.json would have to name",
    rank=20,
)

# ---- those that choose by a sigmoid ------------------------------------------------------------------------

_CORRECTED = replace(_NAMES, zeros={"mlp.gate.e_score_correction_bias": (-1,)})


def _grouped(mixture: Mixture) -> dict[str, Json]:
    return {
        **_config(mixture),
        "n_group": 1,
        "topk_group": 1,
        "scoring_func": "sigmoid",
        "topk_method": "noaux_tc",
        "attention_bias": has_biases(mixture),
    }


def _pairs(mixture: Mixture) -> list[str]:
    return (
        ["its routers add up the two best experts, so there must be two at least"]
        if mixture.experts < 2
        else []
    )


def _dots(mixture: Mixture) -> dict[str, Json]:
    return {**_grouped(mixture), "moe_layer_freq": 1, **window_keys(mixture)}


dots1 = MoeFamily(
    name="dots1",
    title="dots1",
    architecture="Dots1ForCausalLM",
    layer=LLAMA | as_they_are(*HEAD_NORMS, *ALL_BIASES),
    optional=frozenset(ALL_BIASES),
    zeros=frozenset(ALL_BIASES),
    names=_CORRECTED,
    fused=replace(_CORRECTED, experts=FUSED),
    shared_experts=(1, None),
    config=_dots,
    faults=lambda mixture: [*_pairs(mixture), *whole_rope(mixture)],
    exact_router=True,
    rank=60,
)


def _glm(mixture: Mixture) -> dict[str, Json]:
    rope = mixture.config.get("rope_parameters")
    part = rope.get("partial_rotary_factor") if isinstance(rope, dict) else None
    part = part or mixture.config.get("partial_rotary_factor") or 1.0
    return {
        **_grouped(mixture),
        "use_qk_norm": HEAD_NORMS[0] in mixture.layer,
        "partial_rotary_factor": part,
        "num_nextn_predict_layers": 0,
    }


glm4_moe = MoeFamily(
    name="glm4_moe",
    title="GLM-4 MoE",
    architecture="Glm4MoeForCausalLM",
    layer=LLAMA | as_they_are(*HEAD_NORMS, *BIASES),
    optional=frozenset((*HEAD_NORMS, *BIASES)),
    names=_CORRECTED,
    fused=replace(_CORRECTED, experts=FUSED),
    shared_experts=(1, None),
    config=_glm,
    faults=lambda mixture: [*_pairs(mixture), *no_windows(mixture)],
    exact_router=True,
    rank=60,
)
