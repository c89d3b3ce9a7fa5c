"""What cannot be expressed, and how that is told: of each family, with the closest one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from refusals import refused
from safetensors.torch import save_file
from tiny import read_tensors, registry
from tiny_moe import build, config_of, document, write_dense

import mergecore
from mergecore import ConfigError

Dense = Callable[..., Path]


def told(said: dict[str, Any]) -> str:
    """The one error that a document ends with."""
    [error] = refused(said)
    return error


# ---- the document ------------------------------------------------------------------------------------------


def test_a_token_cannot_see_more_experts_than_there_are(dense: Dense) -> None:
    error = told(document(dense(), dense(), dense("llama", 1), experts_per_token=3))
    assert error.startswith("E105 experts_per_token is 3, and the number of experts is 2")
    assert error.endswith("Hint: list more experts, or let each token see fewer")


def test_a_token_sees_an_expert_at_least(dense: Dense) -> None:
    assert "experts_per_token" in told(document(dense(), dense(), experts_per_token=0))


def test_true_is_not_a_number(dense: Dense) -> None:
    said: Any = document(dense(), dense(), dense("llama", 1), experts_per_token=True)
    said["experts"][1]["noise_scale"] = True
    assert refused(said) == [
        "E104 'noise_scale' is true; a number is expected",
        "E104 'experts_per_token' is true; a number is expected",
    ]
    picked = {"pick_experts": {"model": str(dense()), "keep": [0, True]}}
    assert told(picked) == "E104 an item of 'keep' is true; a number is expected"


def test_equal_experts_are_made_on_request_only(dense: Dense, tmp_path: Path) -> None:
    said = document(dense(), dense(), dense(), allow_identical=False)
    assert told(said) == (
        "E105 all experts are the same model, so the mixture computes what that model does, at more "
        "cost. Hint: name different models, give them a noise_scale, or say 'allow_identical: true' to train it further"
    )
    noisy: Any = [{"source_model": str(dense()), "noise_scale": 0.01}] * 2
    build({**said, "experts": noisy}, tmp_path / "out")


def test_errors_of_a_file_name_their_line(dense: Dense, tmp_path: Path) -> None:
    config = tmp_path / "moe.yml"
    config.write_text(
        f"base_model: {dense()}\ngate_mode: random\nexperts:\n- source_model: {dense()}\n- source_model: "
        f"{dense('llama', 1)}\nexperts_per_token: 3\n"
    )
    with pytest.raises(ConfigError) as caught:
        mergecore.plan(config, registry=registry())
    assert str(caught.value.place).endswith("moe.yml:6:20")


def with_prompts(dense: Dense, *prompts: str | None, **changes: Any) -> dict[str, Any]:
    said: dict[str, Any] = {**document(dense()), "gate_mode": "hidden", "experts_per_token": 1, **changes}
    said["experts"] = [
        {"source_model": str(dense("llama", i)), **({"positive_prompts": [one]} if one else {})}
        for i, one in enumerate(prompts)
    ]
    return said


def test_modes_that_look_at_prompts_need_some_of_each_expert(dense: Dense) -> None:
    error, no_tokenizer = refused(with_prompts(dense, "sums", None))
    assert "experts.1 has no positive_prompts, by which tokens for it could be told" in error
    assert "it has no tokenizer to cut the prompts with" in no_tokenizer


def test_items_that_are_wrong_do_not_make_their_list_too_short(dense: Dense) -> None:
    said: dict[str, Any] = {
        **document(dense()),
        "experts_per_token": 1,
        "experts": [{"source": "a"}, {"source": "b"}],
    }
    assert refused(said) == [  # of both, which no place in a file tells apart
        "E104 'source_model' is missing from an expert",
        "E103 unknown key 'source' in an expert; did you mean 'source_model'?",
    ]
    assert "'experts' is empty; a list of at least 1 item is expected" in told({**said, "experts": []})


def test_models_that_are_not_there_are_told_along_with_what_else_is_wrong(dense: Dense) -> None:
    said: dict[str, Any] = document(dense(), gate_mode="hiden", name="./no-model", experts_per_token=1)
    said["experts"] += [{"source_model": "./no-expert"}, {"source_model": "./nor-this", "foo": 1}]
    assert [error.split(":")[0] for error in refused(said)] == [
        "E105 'gate_mode' is 'hiden'; 'hidden', 'hidden_avg', 'hidden_last', 'cheap_embed', 'random', "
        "'uniform_random' or 'router_input' is expected",
        "E103 unknown key 'foo' in an expert. Hint",
        "E701 './no-expert'",
        "E701 './nor-this'",
    ]


def test_a_single_prompt_needs_no_list(dense: Dense) -> None:
    said = with_prompts(dense, "sums", "sums")
    said["experts"][0]["positive_prompts"] = "sums"
    assert "all experts have the same prompts" in told(said)


def test_prompts_must_differ(dense: Dense) -> None:
    error = told(with_prompts(dense, "sums", "sums"))
    assert "all experts have the same prompts, so all of them get the same rows in the routers" in error
    assert error.endswith("Hint: write prompts like the texts that each expert is for")


def test_either_all_shared_experts_have_prompts_or_none(dense: Dense) -> None:
    shared = [{"source_model": str(dense()), "positive_prompts": ["all"]}, {"source_model": str(dense())}]
    error = told(with_prompts(dense, "sums", "verses", shared_experts=shared))
    assert "some shared experts have positive_prompts and others do not" in error
    assert error.endswith("Hint: write prompts for all of them, or for none")


def test_a_wrong_gate_mode_is_an_error_of_the_config(dense: Dense) -> None:
    assert "'hidden_avg'" in told(document(dense(), dense(), gate_mode="hidden_average"))


def test_random_routers_need_no_prompts_in_either_mode(dense: Dense, tmp_path: Path) -> None:
    for mode in ("random", "uniform_random"):
        said = document(dense(), dense(), dense("llama", 1), gate_mode=mode)
        routers = read_tensors(build(said, tmp_path / mode))
        gate = routers["model.layers.1.block_sparse_moe.gate.weight"]
        spread = 1.0 if mode == "random" else 32**-0.5 / 3**0.5  # of uniform numbers in ±w: w/√3
        assert 0.7 * spread < float(gate.std()) < 1.3 * spread
        assert float(gate.abs().max()) < (5 if mode == "random" else 32**-0.5)


def test_an_unknown_family_is_told_with_those_there_are(dense: Dense) -> None:
    error = told(document(dense(), dense(), dense("llama", 1), architecture="mixtrel"))
    assert "no family of mixtures is called 'mixtrel'" in error
    assert "mixtral" in error
    assert "Hint: there are mixtral, deepseek, qwen2_moe, qwen3_moe, " in error


def test_a_family_may_be_named_with_its_distribution(dense: Dense, tmp_path: Path) -> None:
    each = [dense(), dense(), dense("llama", 1)]
    made = [
        build(document(*each, architecture=name), tmp_path / name)
        for name in ("mixtral", "mixtral@mergecore")
    ]
    weights = [(one / "model.safetensors").read_bytes() for one in made]
    assert weights[0] == weights[1]
    error = told(document(*each, architecture="mixtral@others"))
    assert error.startswith("E606")
    assert "no plugin of 'others' provides it" in error


# ---- families ----------------------------------------------------------------------------------------------


def of(dense: Dense, name: str, architecture: str | None, shared: int = 0, **changes: Any) -> str:
    """Why a family does not express a dense model."""
    said: dict[str, Any] = document(dense(name), dense(name), dense(name, 1), **changes)
    if architecture:
        said["architecture"] = architecture
    if shared:
        said["shared_experts"] = [{"source_model": str(dense(name))}] * shared
    return told(said)


@pytest.mark.parametrize(
    ("architecture", "shared", "reason"),
    [
        ("qwen2_moe", 0, "exactly one shared expert, got 0"),
        ("Qwen MoE", 2, "exactly one shared expert, got 2"),
        ("mixtral", 1, "no shared experts, got 1"),
        ("granitemoeshared", 0, "at least one shared expert, got 0"),
    ],
)
def test_families_say_how_many_shared_experts_they_have(
    dense: Dense, architecture: str, shared: int, reason: str
) -> None:
    error = of(dense, "llama", architecture, shared)
    assert f"{reason}. Hint: 'architecture: " in error
    assert error.endswith("' can express it")


def test_the_name_of_mergekit_for_a_family_may_mean_several(dense: Dense, tmp_path: Path) -> None:
    """`qwen` begins Qwen MoE and Qwen3 MoE: the one that fits is taken."""
    said = document(dense("qwen3"), dense("qwen3"), dense("qwen3", 1), architecture="qwen")
    assert config_of(build(said, tmp_path / "out"))["model_type"] == "qwen3_moe"
    assert of(dense, "llama", "qwen").startswith(
        "E117 qwen2_moe: exactly one shared expert, got 0 / qwen3_moe: it"
    )


@pytest.mark.parametrize(
    ("name", "architecture", "reason", "closest"),
    [
        (
            "llama-biases",
            "mixtral",
            "it has no place for 'self_attn.k_proj.bias', 'self_attn.o_proj",
            "granitemoe",
        ),
        ("qwen3", "mixtral", "it has no place for 'self_attn.k_norm.weight', 'self_attn.q_norm", "qwen3_moe"),
        ("llama", "qwen3", "it needs 'self_attn.k_norm.weight', 'self_attn.q_norm.weight', which", "mixtral"),
        ("granite", "mixtral", "it has no place for embedding_multiplier: 12.0; it has no ", "granitemoe"),
        ("olmo2", "mixtral", "it has no place for 'post_feedforward_layernorm.weight', ", "flex_olmo"),
        ("mistral", "granitemoe", "it has no place for sliding_window: 4", "mixtral"),
        (
            "ernie",
            "mixtral",
            "its class MixtralForCausalLM computes something else of the same",
            "ernie4_5_moe",
        ),
        ("llama", "ernie", "its class Ernie4_5_MoeForCausalLM computes something else of the", "mixtral"),
    ],
)
def test_a_family_that_cannot_express_a_model_names_one_that_can(
    dense: Dense, name: str, architecture: str, reason: str, closest: str
) -> None:
    error = of(dense, name, architecture)
    assert reason in error
    assert error.endswith(f"Hint: 'architecture: {closest}' can express it")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        (
            "gemma",
            "mixtral: its class MixtralForCausalLM computes something else of the same tensors than Gemma",
        ),
        ("gemma2", "it has no place for attn_logit_softcapping: 50.0"),
        ("cohere", "it needs 'post_attention_layernorm.weight', which the model does not have"),
        ("arcee", "a gated feed-forward block is needed, and the model has no 'mlp.gate_proj.weight'"),
        ("olmo3", "it has no place for sliding_window: 4"),
        ("qwen2-windows", "it has no place for sliding_window: 4"),
        ("phi3-partial", "it has no place for partial_rotary_factor: 0.5"),
        ("smollm3-without-positions", "it has no layers without positions, and no_rope_layers lists some"),
        (
            "llama-mlp-biases",
            "it has no place for 'mlp.down_proj.bias', 'mlp.gate_proj.bias', 'mlp.up_proj.bias'",
        ),
    ],
)
def test_models_that_no_family_can_express_are_told_why(dense: Dense, name: str, reason: str) -> None:
    error = of(dense, name, None)
    assert error.startswith(f"E117 no family of mixtures can express {dense(name)}; the closest is ")
    assert reason in error
    assert "Hint: the next are " in error
    assert "'architecture: NAME' says why of " in error


def test_a_family_that_is_the_closest_itself_says_so(dense: Dense) -> None:
    assert of(dense, "olmo3", "flex_olmo").endswith("Hint: no family can express it")
    closest = "Hint: no family can express it; the closest is qwen2_moe: exactly one shared expert, got 0"
    assert closest in of(dense, "qwen2-windows", "granitemoe")


def test_layers_with_and_without_windows_are_told(dense: Dense) -> None:
    error = of(dense, "qwen2-windows", "mixtral")
    assert "all of its layers have the same window, and only some have one of 4 here" in error
    said = document(dense("qwen2-windows"), dense("qwen2-windows"), shared=dense("qwen2-windows"))
    told = mergecore.plan(said, registry=registry()).warnings
    assert (
        "only some of its layers have a window of 4: transformers 5 knows that of Qwen2MoeForCausalLM, "
        "transformers 4 and vLLM do not"
    ) in told


@pytest.mark.parametrize(
    ("name", "family", "lost"),
    [
        ("qwen2", "granitemoe", "'self_attn.k_proj.bias', 'self_attn.q_proj.bias', 'self_attn.v_proj.bias'"),
        ("qwen3-biases", "qwen3_moe", "'self_attn.o_proj.bias'"),
        ("qwen3", "qwen3_moe", None),
    ],
)
def test_biases_that_a_loader_would_drop_are_told(
    dense: Dense, name: str, family: str, lost: str | None
) -> None:
    """vLLM 0.32 ignores each bias that its class has no place for."""
    plan = mergecore.plan(
        document(dense(name), dense(name), dense(name), architecture=family), registry=registry()
    )
    told = [one for one in plan.warnings if "vLLM" in one]
    expected = f"vLLM leaves {lost} out of models of this family without a word"
    assert told == ([expected] if lost else [])


def test_heads_that_are_wider_than_the_model_are_told(dense: Dense) -> None:
    error = of(dense, "llama-wide-heads", "qwen2_moe", shared=1)
    assert "its heads are as wide as the model together, and 4 heads of 16 are not 32" in error


def test_a_scale_of_attention_is_told_beside_the_usual_one(dense: Dense) -> None:
    error = of(dense, "granite", "qwen2_moe", shared=1)
    assert "it has no place for attention_multiplier: 0.25, where 1/√8 is meant" in error


def test_routers_that_look_at_pairs_need_two_experts(dense: Dense) -> None:
    said: dict[str, Any] = document(dense("qwen3"), dense("qwen3"), architecture="dots1")
    said["shared_experts"] = [{"source_model": str(dense("qwen3"))}]
    assert "dots1: its routers add up the two best experts, so there must be two at least" in told(said)


def test_a_shared_expert_with_a_gate_needs_prompts_unless_gates_are_random(dense: Dense) -> None:
    said = with_prompts(dense, "sums", "verses", architecture="qwen2_moe")
    said["shared_experts"] = [{"source_model": str(dense())}]
    assert "its shared expert has a gate, which is made of positive_prompts, and there are none" in told(said)


def test_prompts_of_a_shared_expert_without_a_gate_are_refused(dense: Dense) -> None:
    said: dict[str, Any] = document(dense(), dense(), dense("llama", 1), architecture="deepseek")
    said["shared_experts"] = [{"source_model": str(dense()), "positive_prompts": ["all"]}]
    error = told(said)
    assert "its shared experts have no gate, so their prompts would have no effect" in error
    assert error.endswith("Hint: 'architecture: qwen2_moe' can express it")


# ---- models ------------------------------------------------------------------------------------------------


def test_experts_must_fit_into_the_base(dense: Dense, tmp_path: Path) -> None:
    """All of them are told at once, each where it is named."""
    changes: list[dict[str, Any]] = [
        {"num_hidden_layers": 2},
        {"intermediate_size": 40},
        {"hidden_act": "gelu"},
    ]
    wrong = [write_dense(tmp_path / str(i), "llama", 1, **one) for i, one in enumerate(changes)]
    layers, width, act, gate = refused(document(dense(), *wrong, dense("arcee")))
    assert layers.startswith(f"E230 {wrong[0]} has 2 layers, and {dense()} has 3")
    assert layers.endswith("Hint: experts have as many layers as the base")
    assert f"{wrong[1]}: 'mlp.down_proj.weight' of layer 0 is [32, 40], and [32, 48] in {dense()}" in width
    assert width.endswith("Hint: experts are as wide as the base")
    assert f"{wrong[2]} has the activation gelu, and {dense()} has silu" in act
    assert act.endswith("Hint: experts have the same kind of feed-forward block as the base")
    assert f"{dense('arcee')} has no 'mlp.gate_proj.weight' in its layers" in gate
    assert gate.endswith("Hint: experts need a gated feed-forward block")


def test_an_expert_with_biases_the_base_has_not_is_refused(dense: Dense) -> None:
    error = told(document(dense(), dense("llama-mlp-biases")))
    assert f"{dense('llama-mlp-biases')} has 'mlp.down_proj.bias', " in error
    assert f" in its feed-forward blocks, and {dense()} has not" in error


def test_a_mixture_is_no_model_to_make_one_of(dense: Dense, tmp_path: Path) -> None:
    mixture = build(document(dense(), dense(), dense("llama", 1)), tmp_path / "out")
    for said in (document(mixture, dense(), dense("llama", 1)), document(dense(), mixture, dense())):
        error = told(said)
        assert error.startswith(
            f"E222 {mixture}: it is a mixture of experts already. Hint: name dense models; "
        )
        assert error.endswith("`mergecore moe keep` chooses among the experts of a mixture")


def test_quantised_blocks_are_refused(dense: Dense, tmp_path: Path) -> None:
    tensors = read_tensors(dense("llama", 1))
    folder = write_dense(tmp_path / "quantised", "llama", 1)
    tensors["model.layers.0.mlp.up_proj.weight"] = torch.zeros(48, 32, dtype=torch.int8)
    save_file(tensors, folder / "model.safetensors")
    error = told(document(dense(), folder))
    assert (
        f"{folder}: tensor 'model.layers.0.mlp.up_proj.weight' is I8, which no expert can be made of" in error
    )
    assert error.endswith("Hint: use the model before quantisation")


def test_what_is_no_stack_of_equal_layers_is_refused(dense: Dense, tmp_path: Path) -> None:
    error = told(document(dense("stablelm"), dense("stablelm")))
    assert "the model has 'norm.bias' beside its layers" in error
    assert (
        "Hint: a mixture is made of models whose layers are all alike, with embeddings, a norm and a head"
        in error
    )
    tensors = read_tensors(dense())
    folder = write_dense(tmp_path / "odd")
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, folder / "model.safetensors")
    assert "layer 1 differs from layer 0 by 'mlp.up_proj.weight'" in told(document(folder, folder))
    save_file({"embed_tokens.weight": torch.zeros(64, 4)}, folder / "model.safetensors")
    error = told(document(folder, folder))
    assert "it has no stack of layers of which one could tell that it is the one to get experts" in error
    assert error.endswith("Hint: a mixture of experts is made of models of text")
