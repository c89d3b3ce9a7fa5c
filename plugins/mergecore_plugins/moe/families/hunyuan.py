"""Hunyuan: the layer of a Llama with norms of queries and keys behind the positions, and a shared block in each."""

from __future__ import annotations

from dataclasses import replace

from mergecore import MoeFamily
from mergecore.types import ExpertNames, Json, Mixture
from mergecore_plugins.moe.families.common import (
    EXPERTS,
    FUSED,
    LLAMA,
    as_they_are,
    each,
    inner,
    no_windows,
    whole_rope,
)


def _config(mixture: Mixture) -> dict[str, Json]:
    return {
        "num_experts": mixture.experts,
        "moe_topk": mixture.experts_per_token,
        "num_shared_expert": 1,
        "moe_intermediate_size": inner(mixture),
        "use_mixed_mlp_moe": True,
        "attention_bias": False,
        "mlp_bias": False,
        "use_qk_norm": True,
    }


_NAMES = ExpertNames(router="mlp.gate.wg.weight", experts=EXPERTS, shared=each("mlp.shared_mlp"))

hunyuan_v1_moe = MoeFamily(
    name="hunyuan_v1_moe",
    title="Hunyuan MoE",
    architecture="HunYuanMoEV1ForCausalLM",
    layer=LLAMA | as_they_are("self_attn.query_layernorm.weight", "self_attn.key_layernorm.weight"),
    names=_NAMES,
    fused=replace(_NAMES, experts=FUSED),
    shared_experts=(1, 1),
    config=_config,
    faults=lambda mixture: [*no_windows(mixture), *whole_rope(mixture)],
    exact_router=True,
)
