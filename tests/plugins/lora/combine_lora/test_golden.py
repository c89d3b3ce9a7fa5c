"""An adapter that is merged alone, with the weight 1, is the same adapter: for each kind, or it is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import AdaLoraConfig, LoraConfig, PeftConfig, VeraConfig
from peft_adapters import (
    Pair,
    bert,
    gpt2,
    llama,
    llava,
    merged_by_peft,
    mixtral,
    qwen2,
    t5,
    tensors_of,
    write_pair,
)
from safetensors.torch import save_file

import mergecore
from mergecore.errors import InputError
from mergecore.types import Json

pytestmark = pytest.mark.filterwarnings("ignore")

Lora: Any = partial(LoraConfig, r=4, lora_alpha=7)
AdaLora: Any = partial(AdaLoraConfig, init_r=6, lora_alpha=5, total_step=10)
SOME = ["q_proj", "v_proj", "down_proj"]
CONV1D = ["c_attn", "c_proj", "c_fc"]
EXPERTS = ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]

CASES: dict[str, tuple[Callable[[], Any], PeftConfig]] = {
    "plain": (llama, Lora(target_modules=SOME)),
    "rsLoRA": (llama, Lora(use_rslora=True, target_modules="all-linear")),
    "ranks and alphas by pattern": (
        llama,
        Lora(rank_pattern={"q_proj": 3}, alpha_pattern={"v_proj": 2}, target_modules=SOME),
    ),
    "some layers": (llama, Lora(target_modules=SOME, layers_to_transform=[1], exclude_modules=["v_proj"])),
    "embeddings and head": (llama, Lora(target_modules=["embed_tokens", "q_proj", "lm_head"])),
    "whole modules": (
        llama,
        Lora(target_modules=["q_proj"], modules_to_save=["embed_tokens", "lm_head", "model.norm"]),
    ),
    "biases of factors": (qwen2, Lora(lora_bias=True, target_modules=["q_proj", "k_proj"])),
    "all biases": (qwen2, Lora(bias="all", target_modules=["q_proj", "k_proj"])),
    "biases of layers with factors": (qwen2, Lora(bias="lora_only", target_modules=["q_proj", "k_proj"])),
    "weights as (in, out)": (gpt2, Lora(fan_in_fan_out=True, target_modules=CONV1D)),
    "weights as (in, out), unsaid": (gpt2, Lora(target_modules=CONV1D)),
    "experts": (mixtral, Lora(target_modules=["q_proj"], target_parameters=EXPERTS)),
    "one parameter of experts": (mixtral, Lora(target_modules=[], target_parameters=EXPERTS[1:])),
    "encoder and decoder": (t5, Lora(task_type="SEQ_2_SEQ_LM", target_modules=["q", "v", "wo"])),
    "a classifier": (bert, Lora(task_type="SEQ_CLS", target_modules=["query", "value"])),
    "AdaLoRA": (llama, AdaLora(target_modules=SOME)),
    "AdaLoRA with whole modules and biases": (
        qwen2,
        AdaLora(target_modules=["q_proj"], modules_to_save=["lm_head"], bias="all"),
    ),
    "AdaLoRA on weights as (in, out)": (gpt2, AdaLora(fan_in_fan_out=True, target_modules=CONV1D)),
    "eyes and words": (llava, Lora(target_modules=["q_proj", "v_proj", "fc1"])),
}


def alone(pair: Pair, method: str, out: Path, **output: Json) -> Pair:
    """The adapter of a pair after it was merged alone, on the same base."""
    document = {
        "merge_method": method,
        "base_model": str(pair.base),
        "models": [{"model": {"adapter": str(pair.adapter)}, "parameters": {"weight": 1}}],
        "output": {"writer": "peft", **output},
    }
    return Pair(pair.base, mergecore.merge(document, out), pair.kind)


def apart(one: Pair, other: Pair) -> float:
    """How far two adapters are apart, as a share of what the first one changes, all numbers together."""
    base = one.kind.from_pretrained(one.base).state_dict()
    first, second = (each.loaded().merge_and_unload().state_dict() for each in (one, other))
    assert first.keys() == second.keys()
    far = sum(float((first[name].double() - second[name].double()).square().sum()) for name in first)
    size = sum(float((first[name].double() - base[name].double()).square().sum()) for name in base)
    return float((far / size) ** 0.5)


def logits(pair: Pair) -> torch.Tensor:
    model = pair.loaded()
    ids = torch.arange(1, 17).view(1, -1)
    further = {"decoder_input_ids": ids} if model.config.model_type == "t5" else {}
    with torch.no_grad():
        return torch.as_tensor(model(input_ids=ids, **further).logits.float())


@pytest.mark.parametrize("method", ["task_arithmetic", "linear"])
@pytest.mark.parametrize("case", CASES)
def test_one_adapter_comes_back(case: str, method: str, tmp_path: Path) -> None:
    pair = write_pair(tmp_path, *CASES[case])
    made = alone(pair, method, tmp_path / "out")
    assert apart(pair, made) < 1e-6
    assert (logits(pair) - logits(made)).abs().max() < 2e-6


@pytest.mark.parametrize("case", ["plain", "experts", "embeddings and head", "weights as (in, out)"])
@pytest.mark.parametrize("method", ["ties", "knots", "core_space"])
def test_one_adapter_comes_back_through_whole_changes_and_shared_bases(
    case: str, method: str, tmp_path: Path
) -> None:
    pair = write_pair(tmp_path, *CASES[case])
    assert apart(pair, alone(pair, method, tmp_path / "out")) < 1e-5


REFUSED: dict[str, tuple[PeftConfig, str]] = {
    "DoRA": (Lora(use_dora=True, target_modules=SOME), "it is a DoRA, whose change depends on the weights"),
    "tokens": (
        Lora(target_modules=["q_proj"], trainable_token_indices=[3, 5]),
        r"it has tokens of their own \('trainable_token_indices'\)",
    ),
    "VeRA": (
        VeraConfig(target_modules=SOME),
        "it is a VeRA, whose files do not say how wide its layers are: all share one 'vera_A'",
    ),
    "PiSSA": (Lora(init_lora_weights="pissa", target_modules=SOME), "it began with 'pissa', so its change"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_product_of_factors_is_refused_with_the_reason(case: str, tmp_path: Path) -> None:
    config, reason = REFUSED[case]
    pair = write_pair(tmp_path, llama, config)
    with pytest.raises(InputError, match=rf"cannot be merged into an adapter: {reason}") as caught:
        alone(pair, "linear", tmp_path / "out")
    assert caught.value.code == "E251"
    assert not (tmp_path / "out").exists()


def test_other_kinds_of_adapters_are_refused_by_name(tmp_path: Path) -> None:
    from peft import LoHaConfig

    pair = write_pair(tmp_path, llama, LoHaConfig(r=2, target_modules=["q_proj"]))
    with pytest.raises(InputError, match="it is of the kind LOHA, whose change is not B A") as caught:
        alone(pair, "linear", tmp_path / "out")
    assert "use `mergecore extract-lora`" in str(caught.value.hint)


def test_singular_values_that_were_dropped_are_no_part_of_the_sum(tmp_path: Path) -> None:
    """One AdaLoRA whose modules have kept different numbers of them, and a LoRA: 0.5 · ΔW + 2 · ΔW'."""
    kept = {f"model.layers.{i}.self_attn.q_proj.lora_E": [i == 0, True, False, True, False] for i in range(2)}
    first = write_pair(tmp_path / "first", llama, AdaLora(target_modules=["q_proj"], init_r=5))
    config = json.loads((first.adapter / "adapter_config.json").read_text())
    tensors = tensors_of(first.adapter)
    for name, each in kept.items():
        for word in "EAB":
            key = f"base_model.model.{name.removesuffix('E')}{word}"
            tensors[key] = tensors[key][:, each] if word == "B" else tensors[key][each]
            tensors[key] = tensors[key].contiguous()
    save_file(tensors, first.adapter / "adapter_model.safetensors")
    written = {**config, "rank_pattern": kept}
    (first.adapter / "adapter_config.json").write_text(json.dumps(written))
    second = write_pair(tmp_path / "second", llama, Lora(target_modules=["q_proj", "v_proj"]))
    models: list[Json] = [
        {"model": {"adapter": str(one.adapter)}, "parameters": {"weight": weight}}
        for one, weight in ((first, 0.5), (second, 2.0))
    ]
    document = {"merge_method": "task_arithmetic", "models": models, "output": {"writer": "peft"}}
    made = Pair(first.base, mergecore.merge(document, tmp_path / "out"), first.kind)
    before = tensors_of(first.base)
    merged = [merged_by_peft(one, tmp_path / str(i)) for i, one in enumerate((first, second, made))]
    for name, one in before.items():
        a, b, found = (each[name].double() - one.double() for each in merged)
        assert torch.allclose(found, 0.5 * a + 2 * b, rtol=0, atol=2e-7), name
    ranks = {
        len(one) for name, one in tensors_of(made.adapter).items() if name.endswith("q_proj.lora_A.weight")
    }
    assert ranks == {4 + 3, 4 + 2}
