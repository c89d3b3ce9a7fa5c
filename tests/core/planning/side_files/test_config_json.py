"""config.json of the output: as the primary model wrote it, but true of the tensors that are written."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
from tiny import llama_config

from mergecore.planning.side_files.config_json import output_config
from mergecore.planning.side_files.per_layer import restack_heads
from mergecore.types import Json, Layers

Config = dict[str, Json]


def stacked(
    primary: Config, *layers: tuple[Config, int], key: tuple[str, ...] = ("num_hidden_layers",)
) -> Config:
    return output_config(primary, dtype=None, stackings=[Layers("", key, layers)])[0]


def warned(primary: Config, *layers: tuple[Config, int]) -> list[str]:
    return output_config(primary, dtype=None, stackings=[Layers("", ("num_hidden_layers",), layers)])[1]


def test_what_is_true_stays_as_it_was_written() -> None:
    primary = llama_config(
        2, rope_theta=10000.0, rope_scaling={"factor": 8.0, "type": "linear"}, custom=[1, {"a": None}]
    )
    before = copy.deepcopy(primary)
    config, warnings = output_config(primary, dtype="F32")
    assert config == primary == before
    assert list(config) == list(primary)
    assert warnings == []
    assert config["rope_scaling"] is not primary["rope_scaling"]


def test_private_keys_and_old_paths_are_left_out() -> None:
    primary: Config = {
        "_name_or_path": "/home/me/x",
        "a": {"_name_or_path": "/home/me/x", "b": 1},
        "_commit_hash": "c",
    }
    config, _ = output_config(primary, dtype=None)
    assert config == {"a": {"b": 1}}


# ---- dtype -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("primary", "expected"),
    [
        ({"torch_dtype": "float32"}, {"torch_dtype": "bfloat16"}),
        ({"dtype": "float32"}, {"dtype": "bfloat16"}),
        ({"dtype": None}, {"dtype": "bfloat16"}),
        ({"dtype": "float16", "torch_dtype": "float16"}, {"dtype": "bfloat16", "torch_dtype": "bfloat16"}),
        ({}, {"torch_dtype": "bfloat16"}),
        (
            {"dtype": "float32", "text_config": {"dtype": "float32"}, "vision_config": {}},
            {"dtype": "bfloat16", "text_config": {"dtype": "bfloat16"}, "vision_config": {}},
        ),
    ],
)
def test_the_dtype_is_written_where_the_donor_has_it(primary: Config, expected: Config) -> None:
    assert output_config(primary, dtype="BF16")[0] == expected


def test_without_a_dtype_the_word_of_the_donor_stays() -> None:
    assert output_config({"torch_dtype": "float16"}, dtype=None)[0] == {"torch_dtype": "float16"}


# ---- layers ------------------------------------------------------------------------------------------------


def test_layers_are_counted() -> None:
    primary = llama_config(2)
    assert stacked(primary, (primary, 0), (primary, 1), (primary, 1)) == llama_config(3)


def test_layers_are_counted_where_the_config_does_it() -> None:
    primary: Config = {
        "num_hidden_layers": 7,
        "text_config": {"num_hidden_layers": 2, "layer_types": ["a", "b"]},
    }
    config = stacked(primary, *[(primary, 1)] * 3, key=("text_config", "num_hidden_layers"))
    assert config == {
        "num_hidden_layers": 7,
        "text_config": {"num_hidden_layers": 3, "layer_types": ["b"] * 3},
    }
    assert primary["text_config"] == {"num_hidden_layers": 2, "layer_types": ["a", "b"]}


def test_each_layer_brings_its_entry_of_every_list() -> None:
    """Layers 0 and 1 of one model and 1 of the other: their types, and rope or not."""
    one: Config = {"num_hidden_layers": 2, "layer_types": ["full", "sliding"], "no_rope_layers": [1, 0]}
    other: Config = {"num_hidden_layers": 2, "layer_types": ["full", "linear"]}
    config = stacked(one, (one, 0), (one, 1), (other, 1))
    assert config["layer_types"] == ["full", "sliding", "linear"]
    assert config["no_rope_layers"] == [
        1,
        0,
        0,
    ]  # the other model has no such list: as the primary model's layer 1


@pytest.mark.parametrize(
    ("layers", "expected"),
    [((0, 1, 2, 3, 0, 1), [[["g", "l"], 3]]), ((1, 2, 3), [[["l", "g", "l"], 1]]), ((0, 2), [[["g"], 2]])],
)
def test_kinds_that_are_written_as_runs_follow_the_layers(layers: tuple[int, ...], expected: Json) -> None:
    """GPT-Neo: layers 0 and 2 attend to everything."""
    primary: Config = {"num_hidden_layers": 4, "attention_types": [[["g", "l"], 2]]}
    assert stacked(primary, *[(primary, one) for one in layers])["attention_types"] == expected


def test_a_deeper_model_without_the_list_takes_the_last_entry() -> None:
    primary: Config = {"num_hidden_layers": 2, "layer_types": ["full", "sliding"]}
    assert stacked(primary, ({}, 5), (primary, 0))["layer_types"] == ["sliding", "full"]


def test_lists_of_layer_numbers_are_renumbered() -> None:
    """Layer 1 is dense in the primary model; it becomes the layers 1 and 2."""
    primary: Config = {"num_hidden_layers": 3, "mlp_only_layers": [1]}
    config = stacked(primary, (primary, 0), (primary, 1), (primary, 1), (primary, 2))
    assert config == {"num_hidden_layers": 4, "mlp_only_layers": [1, 2]}


def test_a_list_of_layer_numbers_with_as_many_as_there_are_layers_is_no_list_of_values() -> None:
    primary: Config = {"num_hidden_layers": 2, "cross_attention_layers": [0, 1]}
    assert stacked(primary, (primary, 1))["cross_attention_layers"] == [0]


@pytest.mark.parametrize(
    "key",
    ["eos_token_id", "architectures", "suppress_tokens", "special_token_ids", "keys_to_ignore_at_inference"],
)
def test_lists_that_happen_to_have_as_many_entries_are_kept(key: str) -> None:
    primary: Config = {"num_hidden_layers": 2, key: [1, 2]}
    assert stacked(primary, (primary, 0))[key] == [1, 2]


@pytest.mark.parametrize("key", ["first_k_dense_replace", "max_window_layers", "num_dense_layers"])
def test_a_number_of_leading_layers_that_means_all_stays_all(key: str) -> None:
    primary: Config = {"num_hidden_layers": 2, key: 2}
    assert stacked(primary, *[(primary, 0)] * 5)[key] == 5
    assert warned(primary, *[(primary, 0)] * 5) == []


@pytest.mark.parametrize(
    ("layers", "expected"),
    [((0, 1, 2), 2), ((1, 2), 1), ((2, 2), 0), ((0, 1, 1, 2), 3), ((0, 1), 2)],
)
def test_a_number_of_leading_layers_follows_the_layers(layers: tuple[int, ...], expected: int) -> None:
    """The layers 0 and 1 of three are dense."""
    primary: Config = {"num_hidden_layers": 3, "first_k_dense_replace": 2}
    assert stacked(primary, *[(primary, one) for one in layers])["first_k_dense_replace"] == expected
    assert warned(primary, *[(primary, one) for one in layers]) == []


def test_a_number_of_leading_layers_that_no_longer_lead_is_told() -> None:
    primary: Config = {"num_hidden_layers": 3, "max_window_layers": 1}
    wanted = ["max_window_layers stays 1; check that it fits the stacked layers"]
    assert warned(primary, (primary, 0), (primary, 2), (primary, 0)) == wanted
    assert warned({"num_hidden_layers": 3, "max_window_layers": 0}, (primary, 1)) == []


def test_each_layer_leads_as_in_its_own_model() -> None:
    one: Config = {"num_hidden_layers": 2, "first_k_dense_replace": 1}
    other: Config = {"num_hidden_layers": 2, "first_k_dense_replace": 2}
    assert stacked(one, (one, 0), (other, 1), (one, 1))["first_k_dense_replace"] == 2


def test_a_number_of_layers_at_the_end_follows_the_layers() -> None:
    """The last of three layers uses the keys and values of another."""
    primary: Config = {"num_hidden_layers": 3, "num_kv_shared_layers": 1}
    assert stacked(primary, (primary, 0), (primary, 2), (primary, 2))["num_kv_shared_layers"] == 2
    assert len(warned(primary, (primary, 2), (primary, 0))) == 1


def test_settings_of_single_layers_get_their_new_numbers() -> None:
    primary: Config = {
        "num_hidden_layers": 3,
        "per_layer_config": {"2": {"head_dim": 8}},
        "id2label": {"0": "no"},
    }
    config = stacked(primary, (primary, 2), (primary, 0), (primary, 2))
    assert config["per_layer_config"] == {"0": {"head_dim": 8}, "2": {"head_dim": 8}}
    assert config["id2label"] == {"0": "no"}


def test_a_pattern_has_a_letter_for_each_layer() -> None:
    primary: Config = {"num_hidden_layers": 3, "hybrid_override_pattern": "M*-", "dtype": "one"}
    config = stacked(primary, (primary, 2), (primary, 0), (primary, 0), (primary, 1))
    assert config["hybrid_override_pattern"] == "-MM*"
    assert config["dtype"] == "one"


def test_layers_are_counted_by_a_list_where_there_is_no_number() -> None:
    primary: Config = {"layers_block_type": ["mamba", "attention"]}
    config = stacked(primary, (primary, 1), (primary, 0), (primary, 1), key=("layers_block_type",))
    assert config == {"layers_block_type": ["attention", "mamba", "attention"]}


def test_a_list_that_speaks_of_layers_and_cannot_be_understood_is_told() -> None:
    primary: Config = {"num_hidden_layers": 3, "strange_layers": [0, 1]}
    assert warned(primary, (primary, 0)) == [
        "strange_layers stays [0, 1]; check that it fits the stacked layers"
    ]
    assert warned({**primary, "strange_layers": []}, (primary, 0)) == []


# ---- heads and names ---------------------------------------------------------------------------------------


def test_a_head_of_its_own_is_not_tied() -> None:
    config, warnings = output_config({"tie_word_embeddings": True}, dtype=None, untied=True)
    assert config == {"tie_word_embeddings": False}
    assert warnings == ["the head is written on its own, so tie_word_embeddings becomes false"]


@pytest.mark.parametrize("config", [{"model_type": "t5"}, {"model_type": "bart", "is_encoder_decoder": True}])
def test_the_key_stays_that_ties_encoder_and_decoder_too(config: dict[str, Json]) -> None:
    """T5 scales its outputs where it is true; BART would begin with random tables where it is not."""
    made, warnings = output_config({**config, "tie_word_embeddings": True}, dtype=None, untied=True)
    assert made["tie_word_embeddings"] is True
    told = "the head is written on its own; tie_word_embeddings stays, since encoder and decoder need it"
    assert warnings == [told]


def test_the_architecture_can_be_overridden() -> None:
    config, _ = output_config(llama_config(1), dtype=None, architecture="MyForCausalLM")
    assert config["architectures"] == ["MyForCausalLM"]


def test_heads_that_align_words_in_time_follow_the_layers_of_the_decoder() -> None:
    ours: dict[str, Json] = {"decoder_layers": 3}
    other: dict[str, Json] = {"decoder_layers": 3}
    layers = Layers(
        "model.decoder.layers.", ("decoder_layers",), ((ours, 2), (other, 1), (ours, 2), (ours, 0))
    )
    generation: dict[str, Json] = {"alignment_heads": [[0, 5], [1, 6], [2, 7]]}
    assert restack_heads(generation, layers, ours)
    assert generation == {"alignment_heads": [[3, 5], [0, 7], [2, 7]]}
    assert not restack_heads(generation, replace(layers, stack="model.encoder.layers."), ours)


# ---- kinds by place ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        ((0, 1, 2, 3), (4, 2)),
        ((1, 2, 3, 4, 5, 6, 7), (4, 1)),
        ((0, 1, 2, 4, 5, 6), (3, 2)),
        ((2, 6), (1, 0)),
        ((0, 1, 2, 2), (4, 2)),  # no numbers say so: as they were
    ],
)
def test_period_and_offset_follow_the_layers(layers: tuple[int, ...], expected: tuple[int, int]) -> None:
    """Of eight layers, 2 and 6 attend."""
    primary: Config = {"num_hidden_layers": 8, "attn_layer_period": 4, "attn_layer_offset": 2}
    config = stacked(primary, *[(primary, one) for one in layers])
    assert (config["attn_layer_period"], config["attn_layer_offset"]) == expected


@pytest.mark.parametrize(
    ("layers", "expected"),
    [((0, 1, 2, 3), (2, [3])), ((0, 1, 0, 1), (2, [])), ((1, 2, 3), (1, [1, 2])), ((1, 1), (1, []))],
)
def test_layers_with_experts_are_listed_where_their_step_is_lost(
    layers: tuple[int, ...], expected: tuple[int, list[int]]
) -> None:
    """Every second layer has experts, but for layer 3: of four layers only layer 1."""
    primary: Config = {"num_hidden_layers": 4, "decoder_sparse_step": 2, "mlp_only_layers": [3]}
    config = stacked(primary, *[(primary, one) for one in layers])
    assert (config["decoder_sparse_step"], config["mlp_only_layers"]) == expected
