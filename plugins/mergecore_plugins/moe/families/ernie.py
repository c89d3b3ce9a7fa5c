"""ERNIE 4.5: the layer of a Llama whose positions turn neighbouring numbers, not halves of heads."""

from __future__ import annotations

from dataclasses import replace

from mergecore import MoeFamily
from mergecore.types import ExpertNames, Json, Mixture
from mergecore_plugins.moe.families.common import EXPERTS, FUSED, LLAMA, each, inner, no_windows, whole_rope


def _config(mixture: Mixture) -> dict[str, Json]:
    layers = mixture.config.get("num_hidden_layers")
    return {
        "moe_num_experts": mixture.experts,
        "moe_k": mixture.experts_per_token,
        "moe_intermediate_size": inner(mixture),
        "moe_num_shared_experts": mixture.shared_experts,
        "moe_layer_start_index": 0,
        "moe_layer_end_index": layers - 1 if isinstance(layers, int) else -1,
        "moe_layer_interval": 1,
        "moe_use_aux_free": True,
        "moe_norm_min": 1e-12,
        "use_bias": False,
        "output_router_logits": False,
    }


_NAMES = ExpertNames(
    router="mlp.gate.weight",
    experts=EXPERTS,
    shared=each("mlp.shared_experts"),
    zeros={"mlp.moe_statics.e_score_correction_bias": (1, -1)},
)

ernie4_5_moe = MoeFamily(
    name="ernie4_5_moe",
    title="ERNIE 4.5 MoE",
    architecture="Ernie4_5_MoeForCausalLM",
    layer=LLAMA,
    names=_NAMES,
    fused=replace(_NAMES, experts=FUSED, zeros={"mlp.gate.moe_statics.e_score_correction_bias": (1, -1)}),
    shared_experts=(0, None),
    config=_config,
    faults=lambda mixture: [*no_windows(mixture), *whole_rope(mixture)],
    exact_router=True,
)
