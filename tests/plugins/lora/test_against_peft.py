"""An adapter on its base is what PEFT makes of it: merged numbers bit for bit, logits of the model that was trained."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import EvaConfig, LoraConfig, MontecloraConfig, VeloraConfig
from peft_adapters import (
    Pair,
    bert,
    gpt2,
    layers_pair,
    llama,
    llava,
    merged_by_peft,
    mixtral,
    qwen2,
    t5,
    tensors_of,
    write_pair,
)

import mergecore
from mergecore import RunOptions
from mergecore.types import Json

pytestmark = pytest.mark.filterwarnings("ignore")
"""PEFT and transformers warn of each other, and of tied embeddings."""

Lora: Any = partial(LoraConfig, r=4, lora_alpha=7)
SOME = ["q_proj", "v_proj", "down_proj", "gate_proj"]
CONV1D = ["c_attn", "c_proj", "c_fc"]

CASES: dict[str, tuple[Callable[[], Any], LoraConfig]] = {
    "plain": (llama, Lora(target_modules=SOME)),
    "rsLoRA": (llama, Lora(use_rslora=True, target_modules="all-linear")),
    "ranks and alphas by pattern": (
        llama,
        Lora(
            rank_pattern={"q_proj": 3, "layers.1.mlp.down_proj": 5},
            alpha_pattern={"v_proj": 2, r"layers\.[01]\.mlp\.gate.*": 3},
            target_modules=SOME,
        ),
    ),
    "some layers": (llama, Lora(target_modules=SOME, layers_to_transform=[1], exclude_modules=["v_proj"])),
    "DoRA": (llama, Lora(use_dora=True, target_modules=SOME)),
    "embeddings and head": (llama, Lora(target_modules=["embed_tokens", "q_proj", "lm_head"])),
    "DoRA on embeddings": (llama, Lora(use_dora=True, target_modules=["embed_tokens", "lm_head"])),
    "whole modules": (
        llama,
        Lora(target_modules=["q_proj"], modules_to_save=["embed_tokens", "lm_head", "model.norm"]),
    ),
    "tokens": (llama, Lora(target_modules=["q_proj"], trainable_token_indices=[3, 5, 96])),
    "tokens of tied embeddings": (
        partial(llama, tied=True),
        Lora(target_modules=["q_proj"], trainable_token_indices={"embed_tokens": [3, 5, 96]}),
    ),
    "MiCA": (llama, Lora(init_lora_weights="mica", target_modules=SOME)),
    "biases of factors": (qwen2, Lora(lora_bias=True, target_modules=["q_proj", "k_proj"])),
    "all biases": (qwen2, Lora(bias="all", target_modules=["q_proj", "k_proj"])),
    "biases of layers with factors": (qwen2, Lora(bias="lora_only", target_modules=["q_proj", "k_proj"])),
    "all biases and a whole module": (
        gpt2,
        Lora(bias="all", target_modules=CONV1D, modules_to_save=["ln_f"]),
    ),
    "all biases and a whole module with layers of its own": (
        bert,
        Lora(bias="all", target_modules=["query", "value"], modules_to_save=["pooler"]),
    ),
    "weights as (in, out)": (gpt2, Lora(fan_in_fan_out=True, target_modules=CONV1D)),
    "weights as (in, out), unsaid": (gpt2, Lora(target_modules=CONV1D)),
    "DoRA on weights as (in, out)": (gpt2, Lora(use_dora=True, fan_in_fan_out=True, target_modules=CONV1D)),
    "attention beside experts": (mixtral, Lora(target_modules=["q_proj", "v_proj"])),
    "experts": (
        mixtral,
        Lora(
            target_modules=["q_proj"],
            target_parameters=["mlp.experts.gate_up_proj", "mlp.experts.down_proj"],
        ),
    ),
    "one parameter of experts": (
        mixtral,
        Lora(target_modules=[], target_parameters=["mlp.experts.down_proj"]),
    ),
    "encoder and decoder": (t5, Lora(task_type="SEQ_2_SEQ_LM", target_modules=["q", "v", "wo"])),
    "a classifier": (bert, Lora(task_type="SEQ_CLS", target_modules=["query", "value"])),
    "eyes and words": (llava, Lora(target_modules=["q_proj", "v_proj", "fc1"])),
}
"""What is merged bit for bit as PEFT does."""


def merged(reference: Json, out: Path, **options: Any) -> dict[str, torch.Tensor]:
    config: dict[str, Json] = {"merge_method": "passthrough", "models": [{"model": reference}]}
    return tensors_of(mergecore.merge(config, out, run_options=RunOptions(**options)))


def logits(model: Any) -> torch.Tensor:
    ids = torch.arange(1, 17).view(1, -1)
    further = {"decoder_input_ids": ids} if model.config.model_type == "t5" else {}
    with torch.no_grad():
        return torch.as_tensor(model(input_ids=ids, **further).logits.float())


def check_logits(pair: Pair, out: Path, dtype: torch.dtype, within: float) -> None:
    found, info = pair.kind.from_pretrained(out, dtype=dtype, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    wanted, made = logits(pair.loaded(dtype)), logits(found.eval())
    assert (made - wanted).abs().max() <= within
    assert (logits(pair.loaded(dtype).unload()) - wanted).abs().max() > 10 * within


@pytest.mark.parametrize("case", CASES)
def test_an_adapter_is_merged_bit_for_bit_as_peft_does(case: str, tmp_path: Path) -> None:
    pair = write_pair(tmp_path, *CASES[case])
    made = merged(pair.reference, tmp_path / "out", threads=2)
    wanted = merged_by_peft(pair, tmp_path / "peft")
    assert made.keys() == wanted.keys()
    different = {name: (made[name] - wanted[name]).abs().max().item() for name in made}
    assert not {name: far for name, far in different.items() if far}
    check_logits(pair, tmp_path / "out", torch.float32, 2e-6)


@pytest.mark.parametrize("dora", [False, True])
def test_16_bit_bases_are_rounded_once(dora: bool, tmp_path: Path) -> None:
    pair = write_pair(tmp_path, llama, Lora(use_dora=dora, target_modules=SOME), torch.bfloat16)
    made = merged(pair.reference, tmp_path / "out")
    wanted = merged_by_peft(pair, tmp_path / "peft", torch.bfloat16)
    for name in wanted:
        apart = (made[name].view(torch.int16).int() - wanted[name].view(torch.int16).int()).abs()
        assert apart.max() <= 1, name


@pytest.mark.parametrize("start", ["pissa", "olora"])
@pytest.mark.parametrize("make", [llama, gpt2])
def test_the_part_of_the_base_where_training_began_is_taken_out(
    start: str, make: Callable[[], Any], tmp_path: Path
) -> None:
    """PEFT decomposes the base again when it loads such an adapter; both in one thread, as more round otherwise."""
    if (start, make) == ("olora", gpt2):
        pytest.skip("PEFT cannot begin so on weights that are stored as (in, out)")
    targets = SOME if make is llama else CONV1D
    pair = write_pair(tmp_path, make, Lora(init_lora_weights=start, target_modules=targets))
    made = merged(pair.reference, tmp_path / "out")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        wanted = merged_by_peft(pair, tmp_path / "peft")
    finally:
        torch.set_num_threads(threads)
    assert all(torch.allclose(made[name], wanted[name], rtol=0, atol=1e-7) for name in wanted)
    check_logits(pair, tmp_path / "out", torch.float32, 2e-6)


@pytest.mark.parametrize("targets", [["embed_tokens"], ["lm_head"], "saved"])
def test_a_head_is_untied_when_it_and_the_embeddings_were_trained_apart(
    targets: list[str] | str, tmp_path: Path
) -> None:
    """PEFT merges both into one tensor and warns; the trained model computes with two."""
    saved = ["embed_tokens"] if targets == "saved" else None
    modules = ["q_proj"] if targets == "saved" else ["q_proj", *targets]
    config = Lora(target_modules=modules, modules_to_save=saved)
    pair = write_pair(tmp_path, partial(llama, tied=True), config)
    made = merged(pair.reference, tmp_path / "out")
    assert not torch.equal(made["lm_head.weight"], made["model.embed_tokens.weight"])
    check_logits(pair, tmp_path / "out", torch.float32, 2e-6)


LAYERS: dict[str, LoraConfig] = {
    "linear": Lora(target_modules=["lin0"]),
    "two linear": Lora(target_modules=["lin0", "lin1"]),
    "linear, and a whole one": Lora(target_modules=["lin0"], modules_to_save=["lin1"]),
    "linear with bias": Lora(target_modules=["lin0"], lora_bias=True),
    "linear, DoRA": Lora(target_modules=["lin0", "lin1"], use_dora=True),
    "embedding": Lora(target_modules=["emb"]),
    "embedding, DoRA": Lora(target_modules=["emb"], use_dora=True),
    "rows of an embedding": Lora(target_modules=["lin0"], trainable_token_indices={"emb": [1, 99]}),
    "Conv1D of transformers": Lora(target_modules=["conv1d"]),
    "Conv1D of transformers, embedding": Lora(target_modules=["conv1d", "emb"]),
    "Conv1D of transformers, DoRA": Lora(target_modules=["conv1d"], use_dora=True),
    "convolution 1": Lora(target_modules=["seq"]),
    "convolution 1, DoRA": Lora(target_modules=["seq"], use_dora=True),
    "convolution 2": Lora(target_modules=["conv2d"]),
    "convolution 2 and linear": Lora(target_modules=["conv2d", "lin0"]),
    "convolution 2, DoRA": Lora(target_modules=["conv2d"], use_dora=True),
    "convolution 3": Lora(target_modules=["conv3d"]),
    "convolution 3, DoRA": Lora(target_modules=["conv3d"], use_dora=True),
    "convolution 2, with bias": Lora(target_modules=["conv2d"], lora_bias=True),
    "convolution 3, with bias": Lora(target_modules=["conv3d"], lora_bias=True),
    "convolution 3 and linear": Lora(target_modules=["conv3d", "lin0"]),
    "convolution 3 and linear, DoRA": Lora(target_modules=["conv3d", "lin0"], use_dora=True),
    "convolution 2 of one point": Lora(target_modules=["point2d"]),
    "convolution 2 of one point, DoRA": Lora(target_modules=["point2d"], use_dora=True),
    "linear, VeLoRA": Lora(
        target_modules=["lin0"], velora_config=VeloraConfig(num_groups=2, init_type="random")
    ),
    "linear, MonteCLoRA": Lora(target_modules=["lin0"], monteclora_config=MontecloraConfig(num_samples=2)),
    "linear, MiCA": Lora(target_modules=["lin0"], init_lora_weights="mica"),
    "linear, EVA": Lora(target_modules=["lin0"], init_lora_weights="eva", eva_config=EvaConfig()),
    "linear, orthogonal": Lora(target_modules=["lin0"], init_lora_weights="orthogonal"),
    "linear, Gaussian": Lora(target_modules=["lin0"], init_lora_weights="gaussian"),
    "linear, random": Lora(target_modules=["lin0"], init_lora_weights=False),
    "linear and a parameter": Lora(target_modules=["lin0"], target_parameters=["lin1.weight"]),
    "a parameter": Lora(target_modules=[], target_parameters=["lin0.weight"]),
    "two parameters": Lora(target_modules=[], target_parameters=["lin0.weight", "lin1.weight"]),
}
"""PEFT's own tests of merging go through these kinds of layers."""


@pytest.mark.parametrize("case", LAYERS)
def test_every_kind_of_layer_is_merged_as_peft_does(case: str, tmp_path: Path) -> None:
    pair, wanted = layers_pair(tmp_path, LAYERS[case])
    made = merged(pair.reference, tmp_path / "out")
    assert made.keys() == wanted.keys()
    before = tensors_of(pair.base)
    assert any(not torch.equal(made[name], before[name]) for name in made)
    exact = "convolution" not in case  # PEFT adds up products of convolutions in another order
    for name in wanted:
        assert torch.allclose(made[name], wanted[name], rtol=0, atol=0 if exact else 2e-7), name


def test_attention_of_torch_has_two_layers_with_factors(tmp_path: Path) -> None:
    """PEFT 0.21 adds the product to the second one twice when it merges and unloads; in training it counts once."""
    pair, wanted = layers_pair(tmp_path, Lora(target_modules=["mha", "lin0"]))
    made, before = merged(pair.reference, tmp_path / "out"), tensors_of(pair.base)
    factors = tensors_of(pair.adapter)
    inner = "base_model.model.mha.base_layer.out_proj"
    product = factors[f"{inner}.lora_B.weight"] @ factors[f"{inner}.lora_A.weight"] * (7 / 4)
    assert torch.equal(made["mha.out_proj.weight"], before["mha.out_proj.weight"] + product)
    others = made.keys() - {"mha.out_proj.weight"}
    assert all(torch.equal(made[name], wanted[name]) for name in others)
    assert not torch.equal(made["mha.in_proj_weight"], before["mha.in_proj_weight"])
