"""Families that no dense model can be made into, and what stands in the way: the classes of transformers are asked."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tiny_moe import SIZES, quiet
from torch import Tensor
from torch.nn.functional import silu
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

FULL = ["full_attention"] * 3
FAMILIES: dict[str, dict[str, Any]] = {
    "olmoe": {"num_experts": 4},
    "phimoe": {"num_local_experts": 4, "num_experts_per_tok": 2},
    "llama4_text": {"num_local_experts": 4, "head_dim": 8, "intermediate_size_mlp": 48},
    "gpt_oss": {"num_local_experts": 4, "head_dim": 8, "layer_types": FULL},
    "qwen3_next": {"num_experts": 4, "head_dim": 8, "layer_types": FULL},
    "gemma4_text": {
        "num_experts": 4,
        "top_k_experts": 2,
        "moe_intermediate_size": 48,
        "enable_moe_block": True,
    },
    "exaone_moe": {"num_experts": 4, "moe_intermediate_size": 48, "first_k_dense_replace": 0},
    "minimax_m2": {"num_local_experts": 4, "head_dim": 8},
}


def layer(family: str, number: int = 1) -> Any:
    """A layer of a tiny model of random numbers, all of whose experts are the first."""
    with quiet():
        config = CONFIG_MAPPING[family](**{**SIZES, **FAMILIES[family]})
        model: Any = AutoModelForCausalLM.from_config(config).eval()
    generator = torch.Generator().manual_seed(0)
    for name, one in model.named_parameters():
        one.data = 0.3 * torch.randn(one.shape, generator=generator)
        if "experts." in name and one.dim() == 3:
            one.data[:] = one.data[0].clone()
    return model.model.layers[number]


def shapes(family: str) -> dict[str, tuple[int, ...]]:
    return {name: tuple(one.shape) for name, one in layer(family).named_parameters()}


X = torch.randn(1, 5, 32, generator=torch.Generator().manual_seed(1))


def gated(x: Tensor, gate_up: Tensor, down: Tensor) -> Tensor:
    """The feed-forward block that all experts are; matrices as (out, in)."""
    gate, up = (x @ gate_up.T).chunk(2, dim=-1)
    return (silu(gate) * up) @ down.T


@pytest.mark.parametrize("family", ["olmoe", "minimax_m2"])
def test_norms_of_whole_queries_stand_before_norms_of_the_input(family: str) -> None:
    """OLMo 2 norms whole queries too, but what comes out of attention and experts; no dense model does both."""
    found = shapes(family)
    assert found["self_attn.q_norm.weight"] == (32,)
    assert "input_layernorm.weight" in found


def test_exaone_norms_what_goes_in_where_the_dense_exaone_norms_what_comes_out() -> None:
    assert "input_layernorm.weight" in shapes("exaone_moe")
    with quiet():
        dense: Any = AutoModelForCausalLM.from_config(CONFIG_MAPPING["exaone4"](**SIZES))
    names = {name for name, _ in dense.model.layers[1].named_parameters()}
    assert {"post_attention_layernorm.weight", "post_feedforward_layernorm.weight"} < names
    assert "input_layernorm.weight" not in names


def test_the_shares_of_phi_moe_do_not_add_up_to_one() -> None:
    block = layer("phimoe").mlp
    with torch.no_grad():
        found = block(X)
        found = found[0] if isinstance(found, tuple) else found
        wanted = gated(X, block.experts.gate_up_proj[0], block.experts.down_proj[0])
    assert not torch.allclose(found.view_as(wanted), wanted, rtol=0.05)


def test_llama_4_scales_what_goes_into_an_expert() -> None:
    """So an expert gets another input than the dense block, and there is always a shared one beside it."""
    block = layer("llama4_text").feed_forward
    for one in block.shared_expert.parameters():
        one.data.zero_()
    with torch.no_grad():
        found = block(X)[0].view(1, 5, 32)
        wanted = gated(X, block.experts.gate_up_proj[0].T, block.experts.down_proj[0].T)
    assert not torch.allclose(found, wanted, rtol=0.05)


def test_gpt_oss_cuts_what_large_numbers_give() -> None:
    """silu(20) · 20 is 400; here it is (7 + 1) · 7 at most, whatever the matrices are multiplied by."""
    experts = layer("gpt_oss").mlp.experts
    grown = [float(experts._apply_gate(torch.tensor([20.0 * scale, 20.0 * scale]))) for scale in (1, 10, 100)]
    assert max(grown) <= (7 + 1) * 7
    assert float(silu(torch.tensor(20.0)) * 20) == pytest.approx(400)


def test_qwen3_next_has_a_gate_behind_attention() -> None:
    """Half of the rows of the queries are that gate, a sigmoid of the input, which no matrix makes 1."""
    assert shapes("qwen3_next")["self_attn.q_proj.weight"] == (64, 32)


def test_gemma_4_has_its_experts_beside_a_dense_block() -> None:
    """Both have norms of their own, before and behind, which are added up."""
    found = shapes("gemma4_text")
    assert {
        "mlp.gate_proj.weight",
        "experts.gate_up_proj",
        "post_feedforward_layernorm_2.weight",
    } < found.keys()
