"""Bases, slices and tied heads: how the plan of a merge puts models together."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from merge_plans import (
    Config,
    Q,
    linear,
    names,
    planned,
    refused,
    slerp,
    sources,
    stacked,
    step_of,
    ties,
    write,
)
from tiny import llama, write_checkpoint, write_llama

from mergecore import Plan

pytestmark = pytest.mark.usefixtures("_no_weight_is_read")


# ---- numbers of models, bases ------------------------------------------------------------------------------


def test_a_base_alone_is_copied_and_said_to_be() -> None:
    made = planned(ties("base"))

    assert {step.method for step in made.steps} == {None}
    assert [one for one in made.warnings if "only the base" in one] == [
        "ties has only the base for 21 tensors, and copies it: 'model.embed_tokens.weight', "
        "'model.layers.0.input_layernorm.weight', 'model.layers.0.mlp.down_proj.weight' and 18 more"
    ]


def test_a_slice_of_the_base_alone_is_copied() -> None:
    one = stacked(
        "ties", [("base", 0, 1)], [("base", 1, 2), ("a", 1, 2)], base_model="m/base", parameters={"weight": 1}
    )
    made = planned(one)

    assert step_of(made, "model.layers.0.mlp.up_proj.weight").method is None
    assert step_of(made, "model.layers.1.mlp.up_proj.weight").method == "ties"


def test_what_only_the_base_has_is_copied_where_the_others_are_merged_without_it() -> None:
    write("a", {name: one for name, one in llama(2).items() if name != Q})

    made = planned(ties("a"), missing="skip")

    assert step_of(made, Q).method is None
    assert any(f"ties has only the base for 1 tensor, and copies it: '{Q}'" in one for one in made.warnings)


@pytest.mark.parametrize(
    ("config", "text"),
    [
        (
            ties("a", base=None),
            "E110 ties needs a base_model, and the config names none. Hint: add 'base_model: …'",
        ),
        (slerp("a", "b"), "E105 slerp merges exactly 1 model beside base_model, not 2"),
        (slerp("base"), "E105 slerp merges exactly 1 model beside base_model, not 0"),
        (
            {"merge_method": "passthrough", "models": [{"model": "m/a"}, {"model": "m/b"}]},
            "E105 passthrough merges exactly 1 model, not 2",
        ),
        (
            stacked("ties", [("a", 0, 2), ("b", 0, 2)], base_model="m/base", parameters={"weight": 1}),
            "E110 ties needs base_model 'm/base' among the sources of each slice."
            " Hint: add '{model: m/base, layer_range: […]}' to the sources",
        ),
        (
            stacked(
                "ties",
                [("a", 0, 2), ("base", 0, 2), ("base", 0, 2)],
                base_model="m/base",
                parameters={"weight": 1},
            ),
            "E111 base_model 'm/base' is listed twice. Hint: remove one",
        ),
        (
            stacked("linear", [("a", 0, 2)], [("a", 1, 3)], parameters={"weight": 1}),
            "E113 layer_range [1, 3] is beyond m/a, which has 2 layers."
            " Hint: the end is not included: all its layers are [0, 2]",
        ),
        (
            stacked("linear", [("a", 0, 2), ("b", 1, 2)], parameters={"weight": 1}),
            "E113 the sources of a slice differ in length: m/a 2, m/b 1 layers",
        ),
    ],
)
def test_slices_that_a_method_cannot_merge_are_refused(config: Config, text: str) -> None:
    assert [error for error in refused(config) if not error.startswith(text)] == []


def test_several_wrong_slices_are_told_at_once() -> None:
    config = stacked(
        "linear", [("a", 0, 3), ("b", 0, 4)], [("a", 0, 1), ("b", 0, 2)], parameters={"weight": 1}
    )
    assert [error[:4] for error in refused(config)] == ["E113"] * 4  # two lengths, two ends


def test_layers_of_a_model_with_several_stacks_are_ambiguous() -> None:
    stacks = {
        f"{stack}.{i}.{part}.weight": torch.ones(2)
        for stack in ("x.h", "y.h")
        for i in range(2)
        for part in "abc"
    }
    write_checkpoint(Path("m/two"), stacks, {"model_type": "two"})
    [error] = refused(stacked("passthrough", [("two", 0, 1)]))
    assert error == (
        "E113 layer_range is ambiguous: m/two has the layer stacks x.h.N (2), y.h.N (2)."
        " Hint: merge whole models with 'models:'"
    )


# ---- slices ------------------------------------------------------------------------------------------------


def test_layers_are_put_one_upon_another() -> None:
    made = planned(stacked("passthrough", [("a", 0, 2)], [("b", 1, 2)], [("a", 0, 1)]))
    assert made.layers == {"model.layers.": ((0, 0), (0, 1), (1, 1), (0, 0))}
    up = "model.layers.{}.mlp.up_proj.weight".format
    assert [sources(made, up(i)) for i in range(4)] == [
        [f"m/a {up(0)}"],
        [f"m/a {up(1)}"],
        [f"m/b {up(1)}"],
        [f"m/a {up(0)}"],
    ]
    assert len(made.steps) == 3 + 4 * 9


def test_embeddings_come_from_the_first_slice_norm_and_head_from_the_last() -> None:
    made = planned(stacked("passthrough", [("a", 0, 1)], [("b", 1, 2)]))
    assert sources(made, "model.embed_tokens.weight") == ["m/a model.embed_tokens.weight"]
    assert sources(made, "model.norm.weight") == ["m/b model.norm.weight"]
    assert sources(made, "lm_head.weight") == ["m/b lm_head.weight"]
    reasons = {(made.models[one.model].name, one.reason): len(one.names) for one in made.dropped}
    assert reasons == {
        ("m/a", "no slice takes this layer"): 9,
        ("m/a", "tensors outside the layers come from the last slice"): 2,
        ("m/b", "no slice takes this layer"): 9,
        ("m/b", "tensors outside the layers come from the first slice"): 1,
    }


def test_the_config_says_of_layers_merged_as_differences_what_the_base_says_of_them() -> None:
    write("base", llama(2), layer_types=["full", "sliding"], base_list=[1, 2])
    write("a", llama(2), layer_types=["sliding", "sliding"], base_list=[3, 4])
    made = planned(
        stacked(
            "ties",
            [("a", 0, 2), ("base", 0, 2)],
            [("a", 0, 1), ("base", 0, 1)],
            base_model="m/base",
            parameters={"weight": 1.0},
        )
    )
    config = json.loads(config_of(made))
    assert config["layer_types"] == ["full", "sliding", "full"]
    assert config["base_list"] == [1, 2, 1]


def test_a_layer_is_merged_with_another_layer() -> None:
    made = planned(stacked("linear", [("a", 0, 1), ("b", 1, 2)], parameters={"weight": 1}))
    up = "model.layers.{}.mlp.up_proj.weight".format
    assert sources(made, up(0)) == [f"m/a {up(0)}", f"m/b {up(1)}"]


def test_the_layers_of_one_model_can_be_merged_with_each_other() -> None:
    made = planned(stacked("linear", [("a", 0, 1), ("a", 1, 2)], parameters={"weight": 1}))
    up = "model.layers.{}.mlp.up_proj.weight".format
    assert sources(made, up(0)) == [f"m/a {up(0)}", f"m/a {up(1)}"]


def test_models_with_other_names_for_their_layers_are_stacked_under_those_of_the_donor() -> None:
    other = {name.replace("model.", "transformer."): one for name, one in llama(2).items()}
    write("b", other)
    made = planned(stacked("passthrough", [("a", 0, 1)], [("b", 1, 2)]), unexpected="copy")
    assert sources(made, "model.layers.1.mlp.up_proj.weight") == [
        "m/b transformer.layers.1.mlp.up_proj.weight"
    ]


@pytest.mark.parametrize("slices", [False, True])
def test_every_input_tensor_is_used_or_listed_as_dropped(slices: bool) -> None:
    write("b", {**llama(2), "extra": torch.ones(1), "model.layers.1.extra": torch.ones(1)})
    config = stacked("passthrough", [("a", 0, 1)], [("b", 1, 2)]) if slices else ties("a", "b")
    made = planned(config, unexpected="drop")
    taken = {
        (one.model, one.tensor.name)
        for step in made.steps
        for one in (*step.inputs, *([step.base] if step.base else []))
    }
    left = {(one.model, name) for one in made.dropped for name in one.names}
    everything = {(i, name) for i, model in enumerate(made.models) for name in model.tensors}
    assert taken | left == everything
    assert not taken & left


# ---- tied heads --------------------------------------------------------------------------------------------

HEAD, EMBED = "lm_head.weight", "model.embed_tokens.weight"


def write_tied(name: str) -> None:
    write_llama(Path("m") / name, 2, tie_word_embeddings=True)
    tensors = {key: one for key, one in llama(2).items() if key != HEAD}
    write(name, tensors, tie_word_embeddings=True)


def config_of(made: Plan) -> str:
    content = made.side_files["config.json"]
    assert isinstance(content, bytes)
    return content.decode()


def test_tied_models_have_no_head_in_the_output() -> None:
    write_tied("a")
    write_tied("b")
    made = planned(linear("a", "b"))
    assert HEAD not in names(made)
    assert '"tie_word_embeddings": true' in config_of(made)


def test_a_tied_base_and_an_untied_model_give_a_head_of_its_own() -> None:
    write_tied("base")
    made = planned(ties("a"))
    assert sources(made, HEAD) == [f"m/a {HEAD}", f"m/base {EMBED}"]
    assert '"tie_word_embeddings": false' in config_of(made)
    assert made.warnings == ("the head is written on its own, so tie_word_embeddings becomes false",)


def test_an_untied_base_and_a_tied_model_give_a_head() -> None:
    write_tied("a")
    made = planned(ties("a"))
    assert sources(made, HEAD) == [f"m/a {EMBED}", f"m/base {HEAD}"]
    assert '"tie_word_embeddings": false' in config_of(made)
    assert made.warnings == ()
