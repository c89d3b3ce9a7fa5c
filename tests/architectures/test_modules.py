"""The modules of models of several stacks, from the names of their tensors."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from mergecore.models.layers import find_stacks
from mergecore.types import Stack
from mergecore_architectures.modules import FoundModule, modules_of
from mergecore_architectures.names import main_stack, thick_stacks

LAYER = ("q.weight", "k.weight", "v.weight")


def layers(prefix: str, count: int = 2) -> list[str]:
    return [f"{prefix}{i}.{name}" for i in range(count) for name in LAYER]


def modules(*names: str) -> tuple[list[FoundModule], dict[str, str]]:
    stacks = find_stacks(names)
    return modules_of(names, thick_stacks(stacks, names), main_stack(stacks, names, {}))


def owners(found: Mapping[str, str], *names: str) -> list[str]:
    return [found[name] for name in names]


def test_a_model_of_one_stack_is_one_module() -> None:
    assert modules("model.embed_tokens.weight", *layers("model.layers."), "lm_head.weight") == ([], {})
    assert modules("weight", "bias") == ([], {})


def test_a_model_that_sees_as_it_is_published() -> None:
    parts, found = modules(
        *layers("vision_tower.encoder.layers."),
        "vision_tower.post_layernorm.weight",
        "multi_modal_projector.linear_1.weight",
        "language_model.model.embed_tokens.weight",
        *layers("language_model.model.layers.", 3),
        "language_model.lm_head.weight",
    )
    text, vision = Stack("language_model.model.layers.", 3), Stack("vision_tower.encoder.layers.", 2)
    assert parts == [
        FoundModule(
            "vision_tower", ("vision_tower.",), vision, ("vision_model", "vision_tower.encoder.layers")
        ),
        FoundModule("multi_modal_projector", ("multi_modal_projector.",), None),
        FoundModule(
            "language_model", ("language_model.",), text, ("text_decoder", "language_model.model.layers")
        ),
    ]
    assert owners(found, "language_model.lm_head.weight", "vision_tower.post_layernorm.weight") == [
        "language_model",
        "vision_tower",
    ]


def test_the_head_outside_of_everything_belongs_to_the_text() -> None:
    parts, found = modules(
        *layers("model.visual.blocks.", 4),
        "model.visual.merger.mlp.weight",
        "model.visual.deepstack_merger_list.0.weight",
        "model.language_model.embed_tokens.weight",
        *layers("model.language_model.layers."),
        "lm_head.weight",
    )
    assert [(one.name, one.stack and one.stack.prefix) for one in parts] == [
        ("visual", "model.visual.blocks."),
        ("merger", None),
        ("language_model", "model.language_model.layers."),
    ]
    assert [one.aliases[:2] for one in parts] == [
        ("vision_tower", "vision_model"),
        ("multi_modal_projector",),
        ("text_decoder", "model.language_model.layers"),
    ]
    names = (
        "lm_head.weight",
        "model.visual.merger.mlp.weight",
        "model.visual.deepstack_merger_list.0.weight",
    )
    assert owners(found, *names) == ["language_model", "merger", "merger"]


def test_a_text_model_without_a_part_of_its_own() -> None:
    """As Qwen2-VL is published: the text is what is not `visual`."""
    parts, found = modules(
        "model.embed_tokens.weight", *layers("model.layers."), "lm_head.weight", *layers("visual.blocks.")
    )
    assert [one.name for one in parts] == ["model", "visual"]
    assert found["lm_head.weight"] == found["model.embed_tokens.weight"] == "model"


def test_encoder_decoder_and_what_they_share() -> None:
    parts, found = modules(
        "model.shared.weight",
        *layers("model.encoder.layers."),
        "model.encoder.layer_norm.weight",
        *layers("model.decoder.layers."),
        "final_logits_bias",
        "lm_head.weight",
    )
    assert [(one.name, one.aliases) for one in parts] == [
        ("shared", ()),
        ("encoder", ("model.encoder.layers",)),
        ("decoder", ("text_decoder", "model.decoder.layers")),
    ]
    assert owners(found, "model.shared.weight", "final_logits_bias", "lm_head.weight") == [
        "shared",
        "decoder",
        "decoder",
    ]


def test_what_sees_is_one_module_however_many_stacks_it_has() -> None:
    parts, _ = modules(
        *layers("model.vision_tower.convs."),
        *layers("model.vision_tower.blocks."),
        *layers("model.language_model.encoder.layers."),
        *layers("model.language_model.decoder.layers."),
    )
    assert [(one.name, one.stack and one.stack.prefix) for one in parts] == [
        ("vision_tower", None),
        ("encoder", "model.language_model.encoder.layers."),
        ("decoder", "model.language_model.decoder.layers."),
    ]


def test_equal_last_words_are_told_apart_by_more_of_the_name() -> None:
    towers = [f"{side}.{part}.layers." for side in ("one", "two") for part in ("tower", side)]
    parts, _ = modules(*(name for prefix in towers for name in layers(prefix)))
    assert [one.name for one in parts] == ["one.tower", "one", "two.tower", "two"]


def test_layers_side_by_side_belong_to_no_module_apart() -> None:
    parts, found = modules(
        *layers("model.layers.", 4), *layers("model.cross_layers.", 2), "model.norm.weight"
    )
    assert [one.name for one in parts] == ["layers", "cross_layers"]
    assert found["model.norm.weight"] == "layers"


@pytest.mark.parametrize("strange", [".", "", "a..0.b", "0.0.0"])
def test_strange_names_do_no_harm(strange: str) -> None:
    _, found = modules(strange, *layers("a."), *layers("b."))
    assert set(found) == {strange, *layers("a."), *layers("b.")}
