"""Granite-MoE: the layer of a Granite, which is a Llama with four factors; its experts are published in one tensor."""

from __future__ import annotations

from dataclasses import replace

from mergecore import MoeFamily
from mergecore.types import ExpertNames, Json, Mixture
from mergecore_plugins.moe.families.common import (
    ALL_BIASES,
    LLAMA,
    as_they_are,
    biases_that_vllm_lacks,
    has_biases,
    inner,
    no_windows,
    whole_heads,
    whole_rope,
)

_FACTORS = ("embedding_multiplier", "attention_multiplier", "residual_multiplier", "logits_scaling")


def _config(mixture: Mixture) -> dict[str, Json]:
    plain: dict[str, Json] = dict.fromkeys(_FACTORS, 1.0)
    heads, width = mixture.config.get("num_attention_heads"), mixture.config.get("hidden_size")
    assert isinstance(heads, int)
    assert isinstance(width, int)
    plain["attention_multiplier"] = (width // heads) ** -0.5
    return {
        **{key: value for key, value in plain.items() if mixture.config.get(key) is None},
        "num_local_experts": mixture.experts,
        "num_experts_per_tok": mixture.experts_per_token,
        "attention_bias": has_biases(mixture),
        "output_router_logits": False,
        "router_aux_loss_coef": 0.001,
    }


def _shared(mixture: Mixture) -> dict[str, Json]:
    width = inner(mixture)
    assert isinstance(width, int)
    return {**_config(mixture), "shared_intermediate_size": width * mixture.shared_experts}


_NAMES = ExpertNames(
    router="block_sparse_moe.router.layer.weight",
    experts={
        "block_sparse_moe.input_linear.weight": ("gate", "up"),
        "block_sparse_moe.output_linear.weight": ("down",),
    },
)
_FUSED = ExpertNames(
    router="block_sparse_moe.router.weight",
    experts={
        "block_sparse_moe.experts.gate_up_proj": ("gate", "up"),
        "block_sparse_moe.experts.down_proj": ("down",),
    },
)

granitemoe = MoeFamily(
    name="granitemoe",
    title="Granite MoE",
    architecture="GraniteMoeForCausalLM",
    layer=LLAMA | as_they_are(*ALL_BIASES),
    optional=frozenset(ALL_BIASES),
    zeros=frozenset(ALL_BIASES),
    names=_NAMES,
    fused=_FUSED,
    config=_config,
    keeps=_FACTORS,
    faults=lambda mixture: [*no_windows(mixture), *whole_heads(mixture), *whole_rope(mixture)],
    notes=biases_that_vllm_lacks,
)

_WITH_SHARED = replace(
    _NAMES,
    shared={
        "shared_mlp.input_linear.weight": ("gate", "up"),
        "shared_mlp.output_linear.weight": ("down",),
    },
)

granitemoeshared = replace(
    granitemoe,
    name="granitemoeshared",
    title="Granite MoE Shared",
    architecture="GraniteMoeSharedForCausalLM",
    names=_WITH_SHARED,
    fused=replace(_FUSED, shared=_WITH_SHARED.shared),
    shared_experts=(1, None),
    config=_shared,
)
