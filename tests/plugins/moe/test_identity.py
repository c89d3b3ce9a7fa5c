"""Where all experts are one model, the mixture computes what that model does, loaded by the class of its own family."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tiny import read_tensors, registry
from tiny_moe import build, config_of, distance, document, loaded, logits
from torch import Tensor
from torch.nn.functional import silu, softmax

from mergecore.types import Json, MoeFamily

Dense = Callable[..., Path]

WITH_SHARED = ("qwen2_moe", "granitemoeshared", "dots1", "glm4_moe", "hunyuan_v1_moe")
PAIRS = {
    "mixtral": ("llama", "llama-tied", "llama-scaled", "llama-wide-heads", "mistral", "phi3", "smollm3"),
    "qwen2_moe": ("llama", "mistral", "qwen2", "qwen2-windows", "phi3", "seed-oss"),
    "qwen3_moe": ("qwen3", "qwen3-biases"),
    "granitemoe": ("llama", "llama-biases", "qwen2", "granite"),
    "granitemoeshared": ("llama-tied", "granite"),
    "flex_olmo": ("olmo2",),
    "ernie4_5_moe": ("ernie", "helium"),
    "dots1": ("qwen3", "qwen3-biases"),
    "glm4_moe": ("llama", "qwen2", "qwen3", "phi3-partial"),
    "hunyuan_v1_moe": ("hunyuan",),
}
"""The dense models that each family expresses."""
CASES = [
    (family, name, layout)
    for family, names in PAIRS.items()
    for number, name in enumerate(names)
    for layout in (("hub", "fused") if number == 0 else ("hub",))
]


def test_every_family_that_has_a_class_is_here() -> None:
    families = registry().all(MoeFamily)
    assert {one.name for one in families if not one.proved_by} == PAIRS.keys()


@pytest.mark.parametrize(("family", "name", "layout"), CASES)
def test_equal_experts_give_the_logits_of_the_dense_model(
    dense: Dense, tmp_path: Path, family: str, name: str, layout: str
) -> None:
    base = dense(name)
    shared = base if family in WITH_SHARED else None
    said = document(base, *[base] * 4, shared=shared, architecture=family, layout=layout)

    mixture, odd = loaded(build(said, tmp_path / "out"))

    assert odd == {}
    assert mixture.config.model_type == family
    assert distance(logits(mixture), logits(loaded(base)[0])) < 1e-5


@pytest.mark.parametrize("name", ["llama", "mistral"])
def test_two_layouts_hold_the_same_numbers(dense: Dense, tmp_path: Path, name: str) -> None:
    """Noise and scales are a matter of the expert, not of the tensor it lies in."""
    said = document(dense(name), dense(name), dense(name, 1), architecture="mixtral", dtype="bfloat16")
    changed: Json = {"source_model": str(dense(name, 2)), "noise_scale": 0.1, "residual_scale": 0.5}
    others: list[Json] = [{"source_model": str(dense(name, seed))} for seed in (0, 1)]
    said["experts"] = [changed, *others]

    hub = read_tensors(build(said, tmp_path / "hub"))
    fused = read_tensors(build({**said, "layout": "fused"}, tmp_path / "fused"))

    for layer in range(3):
        ours = f"model.layers.{layer}.block_sparse_moe.experts"
        theirs = f"model.layers.{layer}.mlp.experts"
        for expert in range(3):
            gate, up, down = (hub[f"{ours}.{expert}.{part}.weight"] for part in ("w1", "w3", "w2"))
            assert torch.equal(fused[f"{theirs}.gate_up_proj"][expert], torch.cat([gate, up]))
            assert torch.equal(fused[f"{theirs}.down_proj"][expert], down)


# ---- experts that differ, and routers set by hand ----------------------------------------------------------


def test_logits_are_those_of_a_mixture_computed_by_hand(dense: Dense, tmp_path: Path) -> None:
    """Mixtral: softmax over all experts, the two largest, divided by their sum."""
    experts = [dense("llama", seed) for seed in range(3)]
    out = build(document(experts[0], *experts), tmp_path / "out")
    routers = by_hand(out, "block_sparse_moe.gate.weight", 3)

    base, _ = loaded(experts[0])
    blocks = [loaded(one)[0] for one in experts]
    for layer, block in enumerate(base.model.layers):
        block.mlp.forward = mixed(
            routers[layer], [one.model.layers[layer].mlp for one in blocks[1:]], block.mlp
        )

    assert distance(logits(loaded(out)[0]), logits(base)) < 1e-5


def test_a_shared_expert_counts_as_its_gate_says(dense: Dense, tmp_path: Path) -> None:
    """Qwen2-MoE: the shared expert is weighed by the sigmoid of its own gate."""
    experts = [dense("qwen2", seed) for seed in range(3)]
    said = document(experts[0], *experts, architecture="qwen2_moe")
    said["shared_experts"] = [{"source_model": str(dense("qwen2", 3)), "residual_scale": 0.25}]
    out = build(said, tmp_path / "out")
    routers = by_hand(out, "mlp.gate.weight", 3)
    gates = by_hand(out, "mlp.shared_expert_gate.weight", 1)

    base, _ = loaded(experts[0])
    blocks = [loaded(one)[0] for one in experts]
    more, _ = loaded(dense("qwen2", 3))
    for layer, block in enumerate(base.model.layers):
        routed = mixed(routers[layer], [one.model.layers[layer].mlp for one in blocks[1:]], block.mlp)
        shared, gate = more.model.layers[layer].mlp, gates[layer]

        def forward(x: Tensor, routed=routed, shared=shared, gate=gate) -> Tensor:  # type: ignore[no-untyped-def]
            weighed: Tensor = routed(x) + torch.sigmoid(x @ gate.T) * 0.25 * shared(x)
            return weighed

        block.mlp.forward = forward

    assert distance(logits(loaded(out)[0]), logits(base)) < 1e-5


def by_hand(out: Path, name: str, rows: int) -> list[Tensor]:
    """Write other numbers into the routers of a model; and these, layer by layer."""
    from safetensors.torch import save_file

    tensors = read_tensors(out)
    made = []
    for layer in range(3):
        drawn = torch.randn(rows, 32, generator=torch.Generator().manual_seed(70 + layer + rows))
        tensors[f"model.layers.{layer}.{name}"] = drawn
        made.append(drawn)
    save_file(tensors, out / "model.safetensors")
    return made


def mixed(
    router: Tensor, others: list[torch.nn.Module], first: torch.nn.Module
) -> Callable[[Tensor], Tensor]:
    """A feed-forward block that is a mixture of several."""
    own = type(first).forward

    def forward(x: Tensor) -> Tensor:
        made = torch.stack(
            [own(first, x), *(one(x) for one in others)], dim=-2
        )  # (1, tokens, experts, width)
        shares = softmax(x @ router.T, dim=-1)
        top = shares.topk(2, dim=-1)
        kept = torch.zeros_like(shares).scatter(-1, top.indices, top.values)
        weighed: Tensor = (made * (kept / kept.sum(-1, keepdim=True))[..., None]).sum(-2)
        return weighed

    return forward


# ---- DeepSeek-MoE, of which transformers has no class ------------------------------------------------------


def test_deepseek_gives_the_logits_of_the_dense_model(dense: Dense, tmp_path: Path) -> None:
    """A Llama whose blocks read the tensors of the output by their published names."""
    experts = [dense("llama", seed) for seed in range(3)]
    said = document(experts[0], *experts, architecture="DeepSeek")
    said["shared_experts"] = [{"source_model": str(dense("llama", seed))} for seed in (4, 5)]
    out = build(said, tmp_path / "out")
    tensors, base = read_tensors(out), loaded(experts[0])[0]
    others = [loaded(dense("llama", seed))[0] for seed in (0, 1, 2, 4, 5)]

    for layer, x in enumerate(torch.randn(3, 7, 32, generator=torch.Generator().manual_seed(5))):
        prefix = f"model.layers.{layer}.mlp"
        shares = softmax(x @ tensors[f"{prefix}.gate.weight"].T, dim=-1).topk(2, dim=-1)
        weights = shares.values / shares.values.sum(-1, keepdim=True)
        found = gated(tensors, f"{prefix}.shared_experts", x)
        for token, (chosen, share) in enumerate(zip(shares.indices, weights, strict=True)):
            for expert, weight in zip(chosen.tolist(), share, strict=True):
                found[token] += weight * gated(tensors, f"{prefix}.experts.{expert}", x[token])
        blocks = [one.model.layers[layer].mlp for one in others]
        with torch.no_grad():
            wanted = blocks[3](x) + blocks[4](x)
            for token, (chosen, share) in enumerate(zip(shares.indices, weights, strict=True)):
                wanted[token] += sum(
                    w * blocks[e](x[token]) for e, w in zip(chosen.tolist(), share, strict=True)
                )
        assert torch.allclose(found, wanted, atol=1e-5)

    config = config_of(out)
    assert (config["model_type"], config["architectures"]) == ("deepseek", ["DeepseekForCausalLM"])
    assert (config["n_routed_experts"], config["n_shared_experts"], config["num_experts_per_tok"]) == (
        3,
        2,
        2,
    )
    assert config["moe_intermediate_size"] == 48
    assert math.isclose(config["rope_theta"], base.config.rope_parameters["rope_theta"])


def gated(tensors: dict[str, Tensor], prefix: str, x: Tensor) -> Tensor:
    """A feed-forward block, from its tensors."""
    gate, up, down = (tensors[f"{prefix}.{part}_proj.weight"] for part in ("gate", "up", "down"))
    found: Tensor = (silu(x @ gate.T) * (x @ up.T)) @ down.T
    return found
