"""FlexOlmo: the layer of an OLMo 2, which norms what attention and experts give, not what they get."""

from __future__ import annotations

from mergecore import MoeFamily
from mergecore.types import ExpertNames, Json, Mixture
from mergecore_plugins.moe.families.common import (
    ALL_BIASES,
    ATTENTION,
    EXPERTS,
    FUSED,
    HEAD_NORMS,
    as_they_are,
    has_biases,
    no_windows,
    whole_heads,
    whole_rope,
)


def _config(mixture: Mixture) -> dict[str, Json]:
    return {
        "num_experts": mixture.experts,
        "num_experts_per_tok": mixture.experts_per_token,
        "norm_topk_prob": True,
        "attention_bias": has_biases(mixture),
        "output_router_logits": False,
        "router_aux_loss_coef": 0.01,
    }


flex_olmo = MoeFamily(
    name="flex_olmo",
    title="FlexOlmo",
    architecture="FlexOlmoForCausalLM",
    layer=as_they_are(
        *ATTENTION,
        *ALL_BIASES,
        *HEAD_NORMS,
        "post_attention_layernorm.weight",
        "post_feedforward_layernorm.weight",
    ),
    optional=frozenset(ALL_BIASES),
    zeros=frozenset(ALL_BIASES),
    names=ExpertNames(router="mlp.gate.weight", experts=EXPERTS),
    fused=ExpertNames(router="mlp.gate.weight", experts=FUSED),
    config=_config,
    faults=lambda mixture: [*no_windows(mixture), *whole_heads(mixture), *whole_rope(mixture)],
)
