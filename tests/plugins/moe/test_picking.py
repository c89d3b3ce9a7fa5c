"""Mixtures with fewer experts, and mixtures of one model."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from fixture_types import Cli
from refusals import refused
from tiny import read_tensors, write_checkpoint
from tiny_moe import build, config_of, distance, loaded, logits
from torch import Tensor
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

from mergecore.types import Json

Dense = Callable[..., Path]

MIXTURES: dict[str, dict[str, Any]] = {
    "mixtral": {"num_local_experts": 4},
    "qwen2_moe": {"num_experts": 4, "moe_intermediate_size": 16, "shared_expert_intermediate_size": 24},
    "qwen3_moe": {"num_experts": 4, "moe_intermediate_size": 16, "head_dim": 8, "norm_topk_prob": True},
    "granitemoe": {"num_local_experts": 4},
    "gpt_oss": {"num_local_experts": 4, "head_dim": 8, "layer_types": ["full_attention"] * 3},
    "ernie4_5_moe": {
        "moe_num_experts": 4,
        "moe_k": 2,
        "moe_intermediate_size": 16,
        "moe_num_shared_experts": 0,
    },
    "dots1": {
        "n_routed_experts": 4,
        "n_shared_experts": 1,
        "moe_intermediate_size": 16,
        "first_k_dense_replace": 1,
    },
    "hunyuan_v1_moe": {"num_experts": 4, "moe_topk": 2, "head_dim": 8},
}


def write_mixture(folder: Path, family: str, seed: int = 0, **more: Any) -> Path:
    """A mixture of random numbers, as transformers writes it."""
    sizes: dict[str, Any] = {
        "hidden_size": 32,
        "intermediate_size": 24,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 64,
        "num_experts_per_tok": 2,
        "pad_token_id": 0,
    }
    model: Any = AutoModelForCausalLM.from_config(
        CONFIG_MAPPING[family](**{**sizes, **MIXTURES[family], **more})
    )
    generator = torch.Generator().manual_seed(seed)
    for one in model.parameters():
        one.data = 0.3 * torch.randn(one.shape, generator=generator)
    model.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("family", MIXTURES)
def test_experts_in_another_order_give_the_same_logits(family: str, tmp_path: Path, cli: Cli) -> None:
    whole = write_mixture(tmp_path / "whole", family)
    assert cli("moe", "keep", whole, tmp_path / "out", "--experts", "3,1,0,2", "-q").code == 0

    model, odd = loaded(tmp_path / "out")
    assert odd == {}
    assert distance(logits(model), logits(loaded(whole)[0])) < 1e-5
    assert not torch.equal(*(router(folder) for folder in (whole, tmp_path / "out")))


def router(folder: Path) -> Tensor:
    """The router of the last layer."""
    return next(
        one for name, one in read_tensors(folder).items() if "layers.2." in name and one.shape == (4, 32)
    )


@pytest.mark.parametrize("family", MIXTURES)
def test_fewer_experts_make_a_model_that_loads(family: str, tmp_path: Path, cli: Cli) -> None:
    """Of four experts two are left, and the others' tensors are gone."""
    whole = write_mixture(tmp_path / "whole", family)
    assert cli("moe", "drop", whole, tmp_path / "out", "--experts", "0-1").code == 0

    model, odd = loaded(tmp_path / "out")
    assert odd == {}
    assert logits(model).isfinite().all()
    size = sum(one.numel() for name, one in read_tensors(whole).items() if is_routed(name))
    left = sum(one.numel() for name, one in read_tensors(tmp_path / "out").items() if is_routed(name))
    assert left * 2 == size


def test_a_single_expert_is_all_that_tokens_see(tmp_path: Path, cli: Cli) -> None:
    outcome = cli(
        "moe", "drop", write_mixture(tmp_path / "whole", "mixtral"), tmp_path / "out", "--experts", "0-1,3"
    )
    assert "each token saw 2 experts, and sees 1 now: no more are left" in outcome.err
    assert config_of(tmp_path / "out")["num_experts_per_tok"] == 1
    assert logits(loaded(tmp_path / "out")[0]).isfinite().all()

    [error] = refused(
        {"pick_experts": {"model": str(write_mixture(tmp_path / "dots", "dots1")), "keep": [0]}}
    )
    assert "its routers add up the two best experts of a group, so two at least must be left" in error
    assert error.endswith("Hint: keep two at least")


def is_routed(name: str) -> bool:
    return "experts." in name.replace("shared_experts.", "") or "put_linear" in name


def test_tensors_and_config_are_those_of_the_experts_that_are_left(tmp_path: Path) -> None:
    whole = write_mixture(tmp_path / "whole", "mixtral")
    said: Any = {"pick_experts": {"model": str(whole), "keep": [3, 1], "experts_per_token": 1}}
    out = build(said, tmp_path / "out")
    before, after = read_tensors(whole), read_tensors(out)
    moe = "model.layers.1.block_sparse_moe"
    for new, old in enumerate((3, 1)):
        for part in ("w1", "w2", "w3"):
            name = f"{moe}.experts.{{}}.{part}.weight"
            assert torch.equal(after[name.format(new)], before[name.format(old)])
    assert torch.equal(after[f"{moe}.gate.weight"], before[f"{moe}.gate.weight"][[3, 1]])
    assert f"{moe}.experts.2.w1.weight" not in after
    assert torch.equal(after["lm_head.weight"], before["lm_head.weight"])
    config = config_of(out)
    assert (config["num_local_experts"], config["num_experts_per_tok"]) == (2, 1)
    assert config_of(whole) == {**config, "num_local_experts": 4, "num_experts_per_tok": 2}


def test_experts_in_one_tensor_are_cut_out_of_it(tmp_path: Path) -> None:
    whole = write_mixture(tmp_path / "whole", "gpt_oss")
    out = build({"pick_experts": {"model": str(whole), "drop": [1]}}, tmp_path / "out")
    before, after = read_tensors(whole), read_tensors(out)
    for part in ("experts.gate_up_proj", "experts.down_proj_bias", "router.weight", "router.bias"):
        name = f"model.layers.0.mlp.{part}"
        assert torch.equal(after[name], before[name][[0, 2, 3]])


@pytest.mark.parametrize(
    ("asked", "message", "hint"),
    [
        ({}, "either 'keep' or 'drop' is expected, and one of them only", "list numbers of experts, from 0"),
        (
            {"keep": [0], "drop": [1]},
            "either 'keep' or 'drop' is expected",
            "list numbers of experts, from 0",
        ),
        (
            {"keep": [4]},
            "there is no expert '4': the experts are 0 to 3",
            "the first expert is 0; list each once",
        ),
        ({"keep": [1, 1]}, "'keep' lists an expert twice", "the first expert is 0; list each once"),
        ({"drop": [0, 1, 2, 3]}, "no expert is left", "keep one at least"),
        (
            {"keep": [0], "experts_per_token": 2},
            "experts_per_token is 2, and 1 experts are left",
            "let each token see fewer",
        ),
    ],
)
def test_a_wrong_choice_is_an_error_of_the_config(
    tmp_path: Path, asked: dict[str, Any], message: str, hint: str
) -> None:
    whole = write_mixture(tmp_path / "whole", "mixtral")
    [error] = refused({"pick_experts": {"model": str(whole), **asked}})
    assert error.startswith(f"E105 {message}")
    assert error.endswith(f"Hint: {hint}")


def test_a_model_whose_experts_are_not_found_is_refused(dense: Dense, tmp_path: Path) -> None:
    [error] = refused({"pick_experts": {"model": str(dense()), "keep": [0]}})
    assert "no experts are found in it. Hint: name a model with a router and experts in its layers" in error

    whole = write_mixture(tmp_path / "whole", "mixtral")
    config = config_of(whole)
    tensors = read_tensors(whole)
    del tensors["model.layers.1.block_sparse_moe.experts.2.w1.weight"]
    del tensors["model.layers.1.block_sparse_moe.experts.2.w2.weight"]
    del tensors["model.layers.1.block_sparse_moe.experts.2.w3.weight"]
    odd = write_checkpoint(tmp_path / "odd", tensors, config)
    [error] = refused({"pick_experts": {"model": str(odd), "keep": [0]}})
    assert "not all of its layers have the same experts" in error
    assert error.endswith("Hint: choose among the experts of a model where they have")

    flat = {
        "model.layers.0.ffn.experts.mlp.w1": torch.ones(8, 3),
        "model.layers.0.ffn.router.layer.weight": torch.ones(4, 3),
    }
    folder = write_checkpoint(tmp_path / "flat", flat, {"model_type": "dbrx", "num_experts": 4})
    [error] = refused({"pick_experts": {"model": str(folder), "keep": [0]}})
    assert "it is not known where its experts lie in its tensors" in error
    flat["model.layers.0.ffn.experts.mlp.w2"] = torch.ones(4, 2, 3)
    folder = write_checkpoint(tmp_path / "half", flat, {"model_type": "dbrx", "num_experts": 4})
    [error] = refused({"pick_experts": {"model": str(folder), "keep": [0]}})
    assert (
        "'model.layers.0.ffn.experts.mlp.w1' is [8, 3], in which the 4 experts have no axis of their own"
        in error
    )
    assert error.endswith("Hint: its experts cannot be told apart")


@pytest.mark.parametrize(
    ("count", "said"),
    [(5, "says 5"), ([5, 8], "says 5, 8"), (True, "does not say so"), (None, "does not say so")],
)
def test_a_config_with_another_number_of_experts_is_refused(tmp_path: Path, count: Any, said: str) -> None:
    # the new number would be written nowhere, and the model would not load
    whole = write_mixture(tmp_path / "whole", "mixtral")
    (whole / "config.json").write_text(json.dumps({**config_of(whole), "num_local_experts": count}))
    [error] = refused({"pick_experts": {"model": str(whole), "keep": [0, 1]}})
    assert (
        f"its layers have 4 experts, and its config.json {said}. Hint: write the right number there, as "
        in error
    )
    assert error.endswith("moe_num_experts or num_experts_per_layer")


def unsaid(folder: Path, family: str, **more: Any) -> Path:
    """A mixture whose config.json does not say how many experts each token sees."""
    whole = write_mixture(folder, family, **more)
    config = config_of(whole)
    del config["num_experts_per_tok"]
    (whole / "config.json").write_text(json.dumps(config))
    return whole


def test_a_config_need_not_say_how_many_experts_a_token_sees(tmp_path: Path) -> None:
    """The class of Mixtral takes 2 then, and two are left."""
    whole = unsaid(tmp_path / "whole", "mixtral")
    made, odd = loaded(build({"pick_experts": {"model": str(whole), "keep": [3, 1]}}, tmp_path / "out"))
    assert odd == {}
    assert "num_experts_per_tok" not in config_of(tmp_path / "out")
    assert (made.config.num_local_experts, made.config.num_experts_per_tok) == (2, 2)


@pytest.mark.parametrize("more", [{"keep": [3]}, {"keep": [3, 1], "experts_per_token": 1}])
def test_how_many_experts_a_token_sees_must_be_written_to_be_changed(
    more: dict[str, Json], tmp_path: Path
) -> None:
    # the class would take 2, of one expert, or where 1 was asked for
    whole = unsaid(tmp_path / "whole", "mixtral")
    [error] = refused({"pick_experts": {"model": str(whole), **more}})
    assert "its config.json does not say how many experts each token sees" in error
    assert re.search(
        r"Hint: write the number there, as num_experts_per_tok, .*, top_k_experts or top_k$", error
    )


def test_experts_without_a_router_are_refused(tmp_path: Path) -> None:
    whole = write_mixture(tmp_path / "whole", "mixtral")
    tensors = {
        name: one for name, one in read_tensors(whole).items() if ".1.block_sparse_moe.gate" not in name
    }
    odd = write_checkpoint(tmp_path / "odd", tensors, config_of(whole))
    [error] = refused({"pick_experts": {"model": str(odd), "keep": [0]}})
    assert "no router with a row for each of 4 experts is found in 'model.layers.1.block_sparse_moe'" in error
    assert error.endswith("Hint: name a model whose routers are matrices")


def write_groups(folder: Path) -> Path:
    """A dots1 whose routers choose two of four groups of two experts first."""
    more = {"n_routed_experts": 8, "n_group": 4, "topk_group": 2, "num_experts_per_tok": 3}
    return write_mixture(folder, "dots1", **more)


def test_groups_that_only_the_class_of_a_model_knows_are_told(tmp_path: Path) -> None:
    """DeepSeek-V3 takes 8 groups where its config does not say."""
    whole = write_groups(tmp_path / "whole")
    config = {**config_of(whole), "model_type": "deepseek_v3", "architectures": ["DeepseekV3ForCausalLM"]}
    del config["n_group"]
    (whole / "config.json").write_text(json.dumps(config))
    [error] = refused({"pick_experts": {"model": str(whole), "keep": [0, 1]}})
    assert "its class chooses among 8 groups of experts, of which its config.json says nothing" in error
    assert error.endswith("Hint: write n_group and topk_group there")


def test_whole_groups_of_experts_can_be_kept(tmp_path: Path) -> None:
    """The model with them computes what the whole one does where the others are never chosen."""
    whole = write_groups(tmp_path / "whole")
    said: Any = {"pick_experts": {"model": str(whole), "keep": [6, 7, 0, 1, 3, 2]}}
    made, odd = loaded(build(said, tmp_path / "out"))
    config = config_of(tmp_path / "out")
    keys = ("n_routed_experts", "n_group", "topk_group", "num_experts_per_tok")
    assert [config[key] for key in keys] == [6, 3, 2, 3]
    assert odd == {}
    model, _ = loaded(whole)
    for name, one in model.named_buffers():
        if name.endswith("e_score_correction_bias"):
            one[4:6] = -1e4
    assert distance(logits(made), logits(model)) < 1e-5


@pytest.mark.parametrize("keep", [[0, 1, 2], [0, 2], [1, 2], [0, 2, 1, 3]])
def test_groups_of_experts_are_not_taken_apart(tmp_path: Path, keep: list[Json]) -> None:
    [error] = refused({"pick_experts": {"model": str(write_groups(tmp_path / "whole")), "keep": keep}})
    assert "its routers choose among 4 groups of 2 experts first, and these would not stay the same" in error
    assert error.endswith("Hint: take whole groups, one after the other, such as 0-1")


def test_numbers_of_experts_are_checked_on_the_command_line(dense: Dense, tmp_path: Path, cli: Cli) -> None:
    outcome = cli("moe", "keep", dense(), tmp_path / "out", "--experts", "1,two")
    assert outcome.code == 2
    assert "--experts 1,two: numbers are expected, such as 0,2,4-7" in outcome.err


# ---- upcycling ---------------------------------------------------------------------------------------------


def test_upcycling_makes_a_mixture_that_computes_the_same(dense: Dense, tmp_path: Path, cli: Cli) -> None:
    assert cli("moe", "upcycle", dense(), tmp_path / "out", "--experts", "4", "-q").code == 0
    model, odd = loaded(tmp_path / "out")
    assert odd == {}
    assert (model.config.num_local_experts, model.config.num_experts_per_tok) == (4, 2)
    assert distance(logits(model), logits(loaded(dense())[0])) < 1e-5


def test_noise_tells_experts_apart_and_is_as_large_as_asked(dense: Dense, tmp_path: Path, cli: Cli) -> None:
    words = (
        "moe",
        "upcycle",
        dense(),
        tmp_path / "out",
        "--experts",
        "2",
        "--noise",
        "0.05",
        "--seed",
        "3",
        "-q",
    )
    assert cli(*words).code == 0
    made, before = read_tensors(tmp_path / "out"), read_tensors(dense())
    noises = []
    for expert in range(2):
        for name, part in (("w1", "gate"), ("w3", "up"), ("w2", "down")):
            found = made[f"model.layers.1.block_sparse_moe.experts.{expert}.{name}.weight"]
            noises.append((found - before[f"model.layers.1.mlp.{part}_proj.weight"]).flatten())
    for i, one in enumerate(noises):
        assert abs(float(one.std()) - 0.05) < 0.005  # 1536 numbers: the standard error is 0.0009
        assert abs(float(one.mean())) < 0.005
        for other in noises[:i]:
            assert abs(float(torch.corrcoef(torch.stack([one, other]))[0, 1])) < 0.1


def test_a_plan_of_the_command_writes_nothing(dense: Dense, tmp_path: Path, cli: Cli) -> None:
    outcome = cli("moe", "upcycle", dense(), tmp_path / "out", "--plan", "--architecture", "granitemoe")
    assert outcome.code == 0
    assert "\n  30 tensors\n" in outcome.out  # 6 + 3 + 1 of each layer, 3 outside
    assert not (tmp_path / "out").exists()
