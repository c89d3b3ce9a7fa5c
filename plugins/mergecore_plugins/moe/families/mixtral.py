"""Mixtral: the layer of a Llama or Mistral, whose experts are its feed-forward blocks."""

from __future__ import annotations

from mergecore import MoeFamily
from mergecore.types import ExpertNames, Json, Mixture
from mergecore_plugins.moe.families.common import (
    FUSED,
    LLAMA,
    each,
    unlike_windows,
    whole_rope,
    windows,
)


def _config(mixture: Mixture) -> dict[str, Json]:
    return {
        "num_local_experts": mixture.experts,
        "num_experts_per_tok": mixture.experts_per_token,
        "sliding_window": windows(mixture)[0],
        "output_router_logits": False,
        "router_aux_loss_coef": 0.001,
        "router_jitter_noise": 0.0,
    }


mixtral = MoeFamily(
    name="mixtral",
    title="Mixtral",
    architecture="MixtralForCausalLM",
    layer=LLAMA,
    names=ExpertNames(
        router="block_sparse_moe.gate.weight",
        experts=each("block_sparse_moe.experts.{expert}", "w1", "w3", "w2"),
    ),
    fused=ExpertNames(router="mlp.gate.weight", experts=FUSED),
    config=_config,
    faults=lambda mixture: [*unlike_windows(mixture), *whole_rope(mixture)],
    rank=10,
)
