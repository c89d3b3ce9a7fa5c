"""Models whose weights fit, and mean something else."""

from __future__ import annotations

from pathlib import Path

import pytest

from mergecore.planning.meaning.config_differences import differences
from mergecore.types import Checkpoint, Json, ModelReference


def model(name: str, /, **config: Json) -> Checkpoint:
    return Checkpoint(ModelReference(name), Path(), {}, (), config)


def test_what_changes_the_meaning_of_weights_is_told() -> None:
    base = model("base", num_attention_heads=4, rope_parameters={"rope_theta": 1e4, "rope_type": "default"})
    other = model("other", num_attention_heads=8, rope_parameters={"rope_theta": 5e5, "rope_type": "default"})
    assert list(differences([base, other], base)) == [
        "the weights of base and other may not mean the same, their configs differ: num_attention_heads 4 and 8, "
        "rope_parameters.rope_theta 10000.0 and 500000.0; the config of base is written"
    ]


@pytest.mark.parametrize(
    ("key", "ours", "theirs"),
    [
        ("vocab_size", 10, 12),
        ("eos_token_id", 1, 2),
        ("num_hidden_layers", 2, 3),
        ("temperature", 0.5, 1.0),
        ("_attn_implementation", "sdpa", "eager"),
        ("attn_implementation", "sdpa", "eager"),
        ("transformers_version", "4.57", "5.0"),
        ("torch_dtype", "float32", "bfloat16"),
        ("attention_dropout", 0.1, 0.0),
        ("use_cache", True, False),
        ("_name_or_path", "a", "b"),
        ("hidden_size", 8, 8),
        ("layerdrop", 0.1, 0.0),
        ("drop_path_rate", 0.1, 0.0),
        ("router_aux_loss_coef", 0.1, 0.0),
        ("mask_time_prob", 0.1, 0.0),
        ("image_token_id", 1, 2),
        ("boi_token_index", 1, 2),
        ("suppress_tokens", [1], [2]),
        ("max_new_tokens", 1, 2),
        ("output_router_logits", True, False),
        ("problem_type", "regression", None),
        ("name", "a", "b"),
    ],
)
def test_what_does_not_is_not(key: str, ours: Json, theirs: Json) -> None:
    base = model("base", **{key: ours})
    assert not list(differences([model("other", **{key: theirs})], base))


@pytest.mark.parametrize(
    ("key", "ours", "theirs"),
    [
        # what the name of a token, of a layer or of an output is part of
        ("tokens_per_second", 2, 4),
        ("mm_tokens_per_image", 256, 64),
        ("tokens_per_frame", 1, 2),
        ("num_image_tokens", 256, 64),
        ("vision_soft_tokens_per_image", 256, 64),
        ("default_num_delay_tokens", 6, 8),
        ("image_token_offset", 1, 2),
        ("use_cls_token", True, False),
        ("token_dropout", True, False),
        ("router_ignore_padding_tokens", True, False),
        ("num_register_tokens", 0, 4),
        ("vision_feature_layer", -2, -1),
        ("feature_layer", -2, -1),
        ("num_kv_shared_layers", 15, 10),
        ("num_random_blocks", 2, 3),
        ("index_topk_blocks", 16, 8),
        ("block_size", 64, 32),
        ("downsample_in_first_stage", True, False),
        ("output_multiplier", 0.2, 1.0),
        ("output_logit_soft_cap", 30.0, None),
        ("output_range", [0, 1], None),
        ("output_gate_type", "a", "b"),
        ("gradient_clipping", 1e10, 1.0),
        ("use_task_id", True, False),
        ("attention_coef", 0.5, 1.0),
        ("attention_version", 1, 2),
        ("init_trk_keep_alive", 30, 10),
        ("_sliding_window_pattern", 6, 4),
        ("problem_type", "regression", "multi_label_classification"),
        ("is_causal", True, False),
    ],
)
def test_what_changes_the_numbers_is_told_whatever_its_key_is_like(
    key: str, ours: Json, theirs: Json
) -> None:
    base = model("base", **{key: ours})
    (told,) = differences([model("other", **{key: theirs})], base)
    assert f"differ: {key} {ours!r} and {theirs!r}; " in told


def test_the_name_of_a_function_is_more_than_a_name() -> None:
    one, other = (model(name, ffn_config={"act": {"name": name}}) for name in ("silu", "gelu"))
    (told,) = differences([other], one)
    assert "ffn_config.act.name 'silu' and 'gelu'" in told


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({"is_causal": False}, "is_causal False and True (by default)"),
        ({"use_bidirectional_attention": True}, "use_bidirectional_attention True and False (by default)"),
        ({"alibi": True}, "alibi True and False (by default)"),
        ({"attn_logit_softcapping": 50.0}, "attn_logit_softcapping 50.0 and None (by default)"),
        ({"sliding_window": 4096}, "sliding_window 4096 and None (by default)"),
        (
            {"rope_scaling": {"type": "linear", "factor": 2.0}},
            "rope_scaling.type 'linear' and rope_scaling None",
        ),
        ({"text_config": {"is_causal": False}}, "text_config.is_causal False and True (by default)"),
        # as it is where nobody says it
        ({"is_causal": True}, ""),
        ({"rope_scaling": None}, ""),
        ({"use_sliding_window": False}, ""),
        ({"sliding_window": None}, ""),
        ({"final_logit_softcapping": None}, ""),
        # who knows
        ({"rope_theta": 1e6}, ""),
        ({"use_parallel_residual": True}, ""),
        ({"attention_bias": False}, ""),
    ],
)
def test_what_every_loader_takes_alike_is_compared_even_if_one_config_leaves_it_out(
    said: dict[str, Json], told: str
) -> None:
    silent: dict[str, Json] = {key: {"n": 1} for key in said if key == "text_config"} or {"n": 1}
    for ours, theirs in ((said, silent), (silent, said)):
        found = list(differences([model("other", **theirs)], model("one", **ours)))
        assert len(found) == bool(told)
        assert told in "".join(found) or ours is silent


def test_what_one_config_leaves_to_the_default_is_not_compared() -> None:
    assert not list(differences([model("other", rope_theta=1e4)], model("base", head_dim=4)))


def test_many_differences_are_counted() -> None:
    base, other = (model(name, **{f"size_{i}": value for i in range(9)}) for value, name in enumerate("ab"))
    (told,) = differences([other], base)
    assert "size_5 0 and 1 and 3 more; the config of a is written" in told


# ---- one thing under several keys --------------------------------------------------------------------------

YARN: Json = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}
DEEP: Json = {"rope_theta": 1e6, **YARN}  # type: ignore[dict-item]
BY_KIND: Json = {
    "full_attention": {"rope_type": "default", "rope_theta": 1e6},
    "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
}


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        # rotary positions: the older keys, the newer one, by kinds of layers
        ({"rope_theta": 1000000}, {"rope_parameters": {"rope_theta": 1e6, "rope_type": "default"}}),
        ({"rope_theta": 1e6, "rope_scaling": None}, {"rope_parameters": {"rope_theta": 1e6}}),
        ({"rope_theta": 1e6, "rope_scaling": None}, {"rope_theta": 1e6, "rope_scaling": {"type": "default"}}),
        ({"rope_theta": 1e6, "rope_scaling": {**YARN, "beta_fast": 32}}, {"rope_parameters": DEEP}),  # type: ignore[dict-item]
        (
            {
                "rope_theta": 1e6,
                "rope_scaling": {"type": "yarn", "factor": 4},
                "max_position_embeddings": 32768,
            },
            {"rope_parameters": DEEP, "max_position_embeddings": 32768},
        ),
        (
            {"rope_scaling": {"type": "su", "factor": 2}},
            {"rope_scaling": {"rope_type": "longrope", "factor": 2}},
        ),
        ({"rope_theta": 1e6, "rope_local_base_freq": 10000}, {"rope_parameters": BY_KIND}),
        ({"global_rope_theta": 1e6, "local_rope_theta": 1e4}, {"rope_parameters": BY_KIND}),
        (
            {"rotary_pct": 0.25, "rotary_emb_base": 1e4},
            {"rope_parameters": {"rope_theta": 1e4, "partial_rotary_factor": 0.25}},
        ),
        ({"partial_rotary_factor": 0.5}, {"rotary_pct": 0.5}),
        # norms and activations
        ({"rms_norm_eps": 1e-5}, {"norm_eps": 1e-5}),
        ({"layer_norm_epsilon": 1e-5}, {"layer_norm_eps": 1e-5}),
        ({"hidden_act": "gelu_pytorch_tanh"}, {"activation_function": "gelu_new"}),
        ({"hidden_act": "swish"}, {"hidden_activation": "silu"}),
        ({"hidden_act": "gelu", "hidden_activation": None}, {"hidden_act": "gelu"}),
        # windows
        ({"use_sliding_window": False, "sliding_window": 4096}, {"sliding_window": None}),
        ({"use_sliding_window": False, "sliding_window": 4096}, {"use_sliding_window": False}),
        ({"sliding_window": 4096, "layer_types": ["full_attention"]}, {"sliding_window": None}),
        ({"max_window_layers": 28, "sliding_window": 9, "num_hidden_layers": 28}, {"sliding_window": None}),
        # null
        ({"head_dim": None, "hidden_size": 64, "num_attention_heads": 4}, {"head_dim": 16}),
        ({"num_key_value_heads": None, "num_attention_heads": 4}, {"num_key_value_heads": 4}),
        ({"n_inner": None, "n_embd": 8}, {"n_inner": 32}),
        # nested
        ({"text_config": {"rms_norm_eps": 1e-5}}, {"rms_norm_eps": 1e-5}),
    ],
)
def test_what_means_the_same_under_other_keys_is_not_told(
    ours: dict[str, Json], theirs: dict[str, Json]
) -> None:
    one, other = model("one", **ours), model("other", **theirs)
    assert not list(differences([one, other], one))
    assert not list(differences([one, other], other))


@pytest.mark.parametrize(
    ("ours", "theirs", "told"),
    [
        (
            {"rope_scaling": None},
            {"rope_scaling": YARN},
            "rope_scaling None and rope_scaling.rope_type 'yarn'",
        ),
        (
            {"rope_theta": 1000000},
            {"rope_parameters": {"rope_theta": 5e6}},
            "rope_theta 1000000 and rope_parameters.rope_theta 5000000.0",
        ),
        (
            {"rope_theta": 1e6, "rope_scaling": None},
            {"rope_parameters": DEEP},
            "rope_parameters.rope_type 'yarn'",
        ),
        (
            {"rope_scaling": {"type": "linear", "factor": 2.0}},
            {"rope_scaling": {"rope_type": "linear", "factor": 4.0}},
            "rope_scaling.factor 2.0 and 4.0",
        ),
        (
            {"rope_scaling": {"type": "longrope", "short_factor": [1.0, 1.1]}},
            {"rope_scaling": {"type": "longrope", "short_factor": [1.0, 1.2]}},
            "rope_scaling.short_factor [1.0, 1.1] and [1.0, 1.2]",
        ),
        (
            {"rope_theta": 5e5},
            {"rope_parameters": BY_KIND},
            "rope_parameters.full_attention.rope_theta 1000000.0",
        ),
        (
            {"rotary_pct": 0.25},
            {"partial_rotary_factor": 1.0},
            "rotary_pct 0.25 and partial_rotary_factor 1.0",
        ),
        ({"rms_norm_eps": 1e-6}, {"norm_eps": 1e-5}, "rms_norm_eps 1e-06 and norm_eps 1e-05"),
        ({"layer_norm_eps": 1e-12}, {"layer_norm_eps": 1e-5}, "layer_norm_eps 1e-12 and 1e-05"),
        (
            {"hidden_act": "gelu"},
            {"activation_function": "gelu_new"},
            "'gelu' and activation_function 'gelu_new'",
        ),
        (
            {"use_sliding_window": False, "sliding_window": 4096},
            {"sliding_window": 4096},
            "use_sliding_window False and sliding_window 4096",
        ),
        ({"layer_types": ["full", "sliding"]}, {"layer_types": ["sliding", "full"]}, "layer_types ['full', "),
        ({"attn_config": None}, {"attn_config": {"alibi": True}}, "attn_config None and 'given'"),
        (
            {"attn_config": {"alibi": False}},
            {"attn_config": {"alibi": True}},
            "attn_config.alibi False and True",
        ),
        (
            {"text_config": {"rms_norm_eps": 1e-5}},
            {"rms_norm_eps": 1e-6},
            "text_config.rms_norm_eps 1e-05 and rms_n",
        ),
        ({"attention_multiplier": 0.1}, {"attention_multiplier": 0.2}, "attention_multiplier 0.1 and 0.2"),
        ({"logits_scaling": 8}, {"logits_scaling": 1.0}, "logits_scaling 8 and 1.0"),
        (
            {"num_experts_per_tok": 2},
            {"num_experts_per_token": 4},
            "num_experts_per_tok 2 and num_experts_per_token 4",
        ),
    ],
)
def test_what_means_something_else_is_told_whatever_the_key(
    ours: dict[str, Json], theirs: dict[str, Json], told: str
) -> None:
    one, other = model("one", **ours), model("other", **theirs)
    (sentence,) = differences([one, other], one)
    assert told in sentence
    assert list(differences([one, other], other))


def test_what_tells_layers_apart_is_no_matter_where_layers_are_chosen() -> None:
    one, other = (
        model("one", layer_types=["a"], no_rope_layers=[1]),
        model("b", layer_types=["b"], no_rope_layers=[0]),
    )
    assert not list(differences([other], one, stacked=True))


def test_what_a_config_leaves_out_is_what_its_loader_takes() -> None:
    one, other = model("one", model_type="x", rope_theta=1e6), model("other", model_type="x")

    def completed(checkpoint: Checkpoint) -> dict[str, Json]:
        return {"rope_theta": 1e4, "scale": 2, **checkpoint.config}

    (told,) = differences([one, other], one, completed)
    assert "rope_theta 1000000.0 and 10000.0 (by default); the config of one" in told
    assert not list(differences([model("b", model_type="x", rope_theta=1e4)], other, completed))


def test_nobody_is_asked_for_defaults_where_all_is_said() -> None:
    def completed(checkpoint: Checkpoint) -> dict[str, Json]:
        raise AssertionError(f"asked for {checkpoint.name}")

    one, other = (model(name, model_type="x", rope_theta=1e4, head_dim=None) for name in ("one", "other"))
    assert not list(differences([other, model("b", model_type="x", rope_theta=1e4)], one, completed))
