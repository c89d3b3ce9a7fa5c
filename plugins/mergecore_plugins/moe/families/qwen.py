"""Qwen: biases and one shared expert with a gate of its own in version 2, norms of queries and keys in version 3."""

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
    biases_that_vllm_lacks,
    each,
    has_biases,
    inner,
    len_of,
    unlike_windows,
    whole_heads,
    whole_rope,
    window_keys,
    windows,
)


def _config(mixture: Mixture) -> dict[str, Json]:
    return {
        "num_experts": mixture.experts,
        "num_experts_per_tok": mixture.experts_per_token,
        "moe_intermediate_size": inner(mixture),
        "decoder_sparse_step": 1,
        "mlp_only_layers": [],
        "norm_topk_prob": True,
        "output_router_logits": False,
        "router_aux_loss_coef": 0.001,
        "use_sliding_window": windows(mixture)[0] is not None,
        **window_keys(mixture),
    }


def _second(mixture: Mixture) -> dict[str, Json]:
    size, mixed = windows(mixture)
    kinds = mixture.config.get("layer_types")
    more: dict[str, Json] = {}
    if mixed and isinstance(kinds, list):
        more = {"max_window_layers": kinds.index("sliding_attention")}
    elif size:
        more = {"layer_types": ["sliding_attention"] * len_of(mixture)}
    return {
        **_config(mixture),
        **more,
        "shared_expert_intermediate_size": inner(mixture),
        "qkv_bias": True,
    }


def _some_windows(mixture: Mixture) -> list[str]:
    size, mixed = windows(mixture)
    told = (
        f"only some of its layers have a window of {size}: transformers 5 knows that of Qwen2MoeForCausalLM, "
    )
    return [f"{told}transformers 4 and vLLM do not"] if mixed else []


def _third(mixture: Mixture) -> dict[str, Json]:
    return {**_config(mixture), "attention_bias": has_biases(mixture)}


_NAMES = ExpertNames(
    router="mlp.gate.weight",
    experts=EXPERTS,
    shared=each("mlp.shared_expert"),
    shared_gate="mlp.shared_expert_gate.weight",
)

qwen2_moe = MoeFamily(
    name="qwen2_moe",
    title="Qwen MoE",
    architecture="Qwen2MoeForCausalLM",
    layer=LLAMA | as_they_are(*BIASES),
    zeros=frozenset(BIASES),
    names=_NAMES,
    fused=replace(_NAMES, experts=FUSED),
    shared_experts=(1, 1),
    config=_second,
    faults=lambda mixture: [*whole_heads(mixture), *whole_rope(mixture)],
    notes=_some_windows,
    rank=30,
)

qwen3_moe = MoeFamily(
    name="qwen3_moe",
    title="Qwen3 MoE",
    architecture="Qwen3MoeForCausalLM",
    layer=LLAMA | as_they_are(*HEAD_NORMS, *ALL_BIASES),
    optional=frozenset(ALL_BIASES),
    zeros=frozenset(ALL_BIASES),
    names=ExpertNames(router="mlp.gate.weight", experts=EXPERTS),
    fused=ExpertNames(router="mlp.gate.weight", experts=FUSED),
    config=_third,
    faults=lambda mixture: [*unlike_windows(mixture), *whole_rope(mixture)],
    notes=lambda mixture: biases_that_vllm_lacks(mixture, *BIASES),
    rank=40,
)
