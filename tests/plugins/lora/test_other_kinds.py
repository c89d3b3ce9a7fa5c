"""Kinds of adapters beside LoRA: merged numbers are those of PEFT, bit for bit."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from fixture_types import Cli
from peft_adapters import Pair, gpt2, layers_pair, llama, merged_by_peft, qwen2, t5, tensors_of, write_pair
from safetensors.torch import save_file

import mergecore
from mergecore import RunOptions
from mergecore.errors import MergecoreError
from mergecore.types import Json

pytestmark = pytest.mark.filterwarnings("ignore")
"""PEFT and transformers warn of each other, and of tied embeddings."""

SOME = ["q_proj", "k_proj", "down_proj"]
CONV1D = ["c_attn", "c_proj", "c_fc"]


def on(kind: Any, targets: list[str], **further: Any) -> Any:
    return kind(target_modules=targets, **further)


CASES: dict[str, tuple[Callable[[], Any], Any]] = {
    "AdaLoRA": (llama, on(peft.AdaLoraConfig, SOME, init_r=6, lora_alpha=5, total_step=10)),
    "AdaLoRA on weights as (in, out)": (
        gpt2,
        on(peft.AdaLoraConfig, CONV1D, init_r=6, total_step=10, fan_in_fan_out=True),
    ),
    "IA3": (qwen2, on(peft.IA3Config, SOME, feedforward_modules=["down_proj"])),
    "IA3 with biases only at the output": (qwen2, on(peft.IA3Config, SOME, feedforward_modules=[])),
    "IA3 on weights as (in, out)": (gpt2, on(peft.IA3Config, CONV1D, feedforward_modules=["c_fc"])),
    "IA3 of square weights": (
        llama,
        on(peft.IA3Config, ["q_proj", "o_proj"], feedforward_modules=["o_proj"]),
    ),
    "LN tuning": (llama, peft.LNTuningConfig(target_modules=["input_layernorm", "norm"])),
    "LN tuning with biases": (gpt2, peft.LNTuningConfig(target_modules=["ln_1", "ln_f"])),
    "VeRA": (llama, on(peft.VeraConfig, SOME, r=12)),
    "VeRA on weights as (in, out)": (gpt2, on(peft.VeraConfig, CONV1D, r=12, fan_in_fan_out=True)),
    "LoHa": (llama, on(peft.LoHaConfig, SOME, r=3, alpha=5, rank_pattern={"k_proj": 5})),
    "LoKr": (llama, on(peft.LoKrConfig, SOME, r=3, alpha=5, decompose_both=True, decompose_factor=4)),
    "OFT": (llama, on(peft.OFTConfig, SOME, oft_block_size=4, r=0)),
    "OFT with shared blocks": (qwen2, on(peft.OFTConfig, SOME, r=4, oft_block_size=0, block_share=True)),
    "OFT, exact": (llama, on(peft.OFTConfig, SOME, oft_block_size=4, r=0, use_cayley_neumann=False)),
    "BOFT on one kind of layer of T5": (t5, on(peft.BOFTConfig, ["wo"], boft_block_size=4)),
    "FourierFT on weights as (in, out)": (
        gpt2,
        on(peft.FourierFTConfig, CONV1D, n_frequency=20, fan_in_fan_out=True),
    ),
    "BEFT": (qwen2, on(peft.BeftConfig, ["q_proj", "k_proj"])),
    "GLoRA": (llama, on(peft.GloraConfig, SOME, r=3)),
    "supertuning": (llama, on(peft.SupertuningConfig, SOME)),
    "BOFT": (llama, on(peft.BOFTConfig, SOME, boft_block_size=4)),
    "BOFT with butterflies": (
        llama,
        on(peft.BOFTConfig, ["q_proj"], boft_block_size=4, boft_n_butterfly_factor=2),
    ),
    "HRA": (qwen2, on(peft.HRAConfig, SOME, r=4)),
    "HRA, orthogonal": (llama, on(peft.HRAConfig, SOME, r=4, apply_GS=True)),
    "C3A": (llama, on(peft.C3AConfig, SOME, block_size=8)),
    "DEFT": (llama, on(peft.DeftConfig, SOME)),
    "DeLoRA": (llama, on(peft.DeloraConfig, SOME, r=4)),
    "FourierFT": (llama, on(peft.FourierFTConfig, SOME, n_frequency=20)),
    "GraLoRA": (llama, on(peft.GraloraConfig, SOME, r=4, gralora_k=2)),
    "HiRA": (llama, on(peft.HiraConfig, [*SOME, "embed_tokens"], r=4)),
    "MiSS": (llama, on(peft.MissConfig, SOME, r=4)),
    "PEANuT": (llama, on(peft.PeanutConfig, SOME, r=4)),
    "RoAd with biases": (qwen2, on(peft.RoadConfig, SOME, group_size=4)),
    "RoAd of the fourth variant": (qwen2, on(peft.RoadConfig, SOME, group_size=4, variant="road_4")),
    "WaveFT": (llama, on(peft.WaveFTConfig, SOME, n_frequency=20)),
    "a kind with whole modules": (
        llama,
        on(peft.LoHaConfig, SOME, r=3, modules_to_save=["lm_head"]),
    ),
}


def merged(reference: Json, out: Path, **options: Any) -> dict[str, torch.Tensor]:
    config: dict[str, Json] = {"merge_method": "passthrough", "models": [{"model": reference}]}
    return tensors_of(mergecore.merge(config, out, run_options=RunOptions(**options)))


@pytest.mark.parametrize("case", CASES)
def test_every_kind_is_merged_bit_for_bit_as_peft_does(case: str, tmp_path: Path) -> None:
    pair = write_pair(tmp_path, *CASES[case])
    made = merged(pair.reference, tmp_path / "out", threads=2)
    wanted, before = merged_by_peft(pair, tmp_path / "peft"), tensors_of(pair.base)
    assert made.keys() == wanted.keys()
    different = {name: (made[name] - wanted[name]).abs().max().item() for name in made}
    # the transform of C3A is rounded otherwise with other numbers of threads
    assert not {name: far for name, far in different.items() if far > (1e-8 if case == "C3A" else 0)}
    assert any(not torch.equal(made[name], before[name]) for name in made)


LAYERS: dict[str, Any] = {
    "IA3 of a convolution": on(peft.IA3Config, ["conv2d", "lin0"], feedforward_modules=[]),
    "IA3 before a convolution": on(peft.IA3Config, ["conv2d"], feedforward_modules=["conv2d"]),
    "LoHa of convolutions": on(peft.LoHaConfig, ["seq", "conv2d"], r=2),
    "LoHa, convolutions in factors": on(peft.LoHaConfig, ["conv2d", "lin0"], r=2, use_effective_conv2d=True),
    "LoKr of convolutions": on(peft.LoKrConfig, ["conv2d", "lin1"], r=2),
    "OFT of a convolution": on(peft.OFTConfig, ["conv2d"], oft_block_size=5, r=0),
    "HRA of a convolution": on(peft.HRAConfig, ["conv2d"], r=2),
}


@pytest.mark.parametrize("case", LAYERS)
def test_convolutions_are_merged_as_peft_does(case: str, tmp_path: Path) -> None:
    pair, wanted = layers_pair(tmp_path, LAYERS[case])
    made, before = merged(pair.reference, tmp_path / "out"), tensors_of(pair.base)
    assert all(torch.allclose(made[name], wanted[name], rtol=0, atol=1e-7) for name in wanted)
    assert any(not torch.equal(made[name], before[name]) for name in made)


@pytest.mark.parametrize("kind", [peft.OFTConfig(oft_block_size=4, r=0), peft.LoHaConfig(r=3)])
def test_16_bit_bases_are_rounded_once(kind: Any, tmp_path: Path) -> None:
    """PEFT computes in 16 bits; here it is what PEFT makes of the base in 32 bits, rounded."""
    kind.target_modules = {"q_proj"}
    pair = write_pair(tmp_path, llama, kind, torch.bfloat16)
    made, wanted = merged(pair.reference, tmp_path / "out"), merged_by_peft(pair, tmp_path / "peft")
    assert all(torch.equal(made[name], wanted[name].bfloat16()) for name in wanted)


Q = "model.layers.0.self_attn.q_proj"


def test_products_are_made_one_after_the_other_and_a_scale_counts_for_each(tmp_path: Path) -> None:
    pair = write_pair(tmp_path, llama, on(peft.IA3Config, ["q_proj"], feedforward_modules=[]))
    turned = write_pair(tmp_path / "b", llama, on(peft.OFTConfig, ["q_proj"], oft_block_size=4, r=0))
    model: Json = {
        "model": str(pair.base),
        "adapters": [{"path": str(pair.adapter), "scale": 0.5}, str(turned.adapter)],
    }
    made = merged(model, tmp_path / "out")[f"{Q}.weight"]
    base = tensors_of(pair.base)
    factor = tensors_of(pair.adapter)[f"base_model.model.{Q}.ia3_l"]
    base[f"{Q}.weight"] = base[f"{Q}.weight"] + 0.5 * (base[f"{Q}.weight"] * factor - base[f"{Q}.weight"])
    save_file(base, tmp_path / "b" / "base" / "model.safetensors", {"format": "pt"})
    wanted = merged_by_peft(turned, tmp_path / "peft")[f"{Q}.weight"]
    assert torch.allclose(made, wanted, rtol=0, atol=1e-7)


def changed(pair: Pair, config: dict[str, Any] | None = None, **tensors: torch.Tensor | None) -> Pair:
    """The pair, after some of its adapter's values were changed; a None takes one away."""
    path = pair.adapter / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **(config or {})}))
    held: dict[str, Any] = dict(tensors_of(pair.adapter))
    for word, one in tensors.items():
        for name in [name for name in held if name.endswith(f"{Q}.{word}") or name == f"base_model.{word}"]:
            held[name] = one
    save_file(
        {name: one for name, one in held.items() if one is not None},
        pair.adapter / "adapter_model.safetensors",
    )
    return pair


IA3, LOHA = peft.IA3Config(feedforward_modules=[]), peft.LoHaConfig(r=3)
ADALORA, VERA = peft.AdaLoraConfig(total_step=9), peft.VeraConfig(r=4)
FAULTY: tuple[tuple[Any, dict[str, Any], dict[str, Any], str], ...] = (
    (IA3, {}, {"ia3_l": torch.ones(3, 1)}, f"E252.*'{Q}.weight' \\[3, 1\\], the base has \\[48, 48\\]"),
    (ADALORA, {}, {"lora_E": None}, f"E250.*'{Q}' has no lora_E"),
    (ADALORA, {}, {"lora_A": torch.ones(3, 48)}, "lora_A has the shape \\[3, 48\\], expected \\[12, 48\\]"),
    (
        VERA,
        {},
        {"vera_A": None},
        "E251.*VERA without 'vera_A' and 'vera_B' cannot be .*Hint: save it with 'save_projection: true'",
    ),
    (VERA, {}, {"vera_lambda_d": torch.ones(9)}, "vera_lambda_d has the shape \\[9\\], expected \\[4\\]"),
    (
        LOHA,
        {},
        {"hada_w1_a": None},
        f"E250.*'{Q}.hada_w1_a' is not there; .* has \\[48, 3\\].*Hint: the config and the weights must go together",
    ),
    (LOHA, {"r": 5}, {}, "E250.*layers.1.self_attn.q_proj.hada_w1_a' is \\[48, 3\\]; .* has \\[48, 5\\]"),
    (LOHA, {"r": 10**12}, {}, "E250.*the adapter has \\[48, 1000000000000\\]"),
    (LOHA, {"r": "x"}, {}, f"E250.*PEFT cannot put the adapter on '{Q}'"),
    (LOHA, {"peft_type": "HRA"}, {}, "E250.*hada_w1_a' is .*; by its config, the adapter has none"),
    (LOHA, {"peft_type": "LORA"}, {}, "E251.*belongs to a kind of adapter that is not supported"),
    (LOHA, {"peft_type": "SHIRA"}, {}, "E251.*SHIRA are not supported: it does not store which numbers"),
    (LOHA, {"peft_type": "ADAMSS"}, {}, "E251.*ADAMSS are not supported: it cuts the base into parts by a"),
    (LOHA, {"peft_type": "SHADOW"}, {}, "E251.*SHADOW are not supported: it is a network beside the model"),
    (LOHA, {"peft_type": "NEWEST"}, {}, "E251.*the kind NEWEST are not supported"),
)


@pytest.mark.parametrize(("kind", "config", "tensors", "told"), FAULTY)
def test_what_does_not_go_together_is_refused_in_the_plan(
    kind: Any, config: dict[str, Any], tensors: dict[str, Any], told: str, tmp_path: Path
) -> None:
    kind.target_modules = {"q_proj"}
    pair = changed(write_pair(tmp_path, llama, kind), config, **tensors)
    with pytest.raises(MergecoreError) as caught:
        mergecore.plan({"merge_method": "passthrough", "models": [{"model": pair.reference}]})
    error = caught.value
    listed = getattr(error, "errors", None) or [error]
    text = " | ".join(f"{one.code} {one}" for one in listed)
    assert error.exit_code == 3
    assert re.search(told, text), text


def test_layers_without_a_known_form_are_refused(tmp_path: Path) -> None:
    """Embeddings have no output of their own that IA3 could multiply."""
    pair = write_pair(tmp_path, llama, on(peft.IA3Config, ["q_proj"], feedforward_modules=[]))
    held = tensors_of(pair.adapter)
    held = {name.replace(Q, "model.embed_tokens"): one for name, one in held.items()}
    save_file(held, pair.adapter / "adapter_model.safetensors")
    with pytest.raises(
        MergecoreError, match=r"IA3 on 'model\.embed_tokens' is not supported: no layer of its form"
    ) as caught:
        mergecore.plan({"merge_method": "passthrough", "models": [{"model": pair.reference}]})
    assert caught.value.code == "E251"


def test_a_bias_that_is_computed_from_the_weight_is_refused(tmp_path: Path) -> None:
    pair = write_pair(tmp_path, qwen2, on(peft.GloraConfig, ["q_proj"], r=3))
    told = rf"GLORA on '{Q}', which has a bias, is not supported: the new bias depends on the weight"
    with pytest.raises(MergecoreError, match=told) as caught:
        mergecore.plan({"merge_method": "passthrough", "models": [{"model": pair.reference}]})
    assert caught.value.code == "E251"


def test_another_base_is_told(tmp_path: Path) -> None:
    pair = write_pair(tmp_path, llama, on(peft.LoHaConfig, ["q_proj"], r=3))
    other = write_pair(tmp_path / "other", gpt2, on(peft.LoKrConfig, ["lm_head"], r=3))
    with pytest.raises(
        MergecoreError, match=r"the base has no 'model\.layers\.0\.self_attn\.q_proj\.weight'"
    ):
        mergecore.plan({"merge_method": "passthrough", "models": [{"model": f"{other.base}+{pair.adapter}"}]})


def test_another_kind_is_shown(tmp_path: Path, cli: Cli) -> None:
    pair = write_pair(tmp_path, llama, on(peft.LoHaConfig, ["q_proj"], r=3, alpha=5))
    found = json.loads(cli("adapter", "show", str(pair.adapter), "--json").out)
    assert (found["kind"], found["alpha"], found["modules"]) == ("LOHA", 5, {"self_attn.q_proj": 2})
