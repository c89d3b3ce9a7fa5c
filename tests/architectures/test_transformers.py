"""Descriptions by the models of transformers, and whether models of selected layers would load."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tiny import llama, llama_config

from mergecore.types import (
    Architecture,
    Checkpoint,
    Description,
    Layers,
    ModelReference,
    Proposal,
    Stack,
    Stored,
    TensorInfo,
)
from mergecore_architectures import transformers_models
from mergecore_architectures.transformers import completed, describe, keeps_f32, mergecore_architectures
from mergecore_architectures.transformers_fit import loadability
from mergecore_architectures.transformers_keys import map_keys
from mergecore_architectures.transformers_loaded import loaded
from mergecore_architectures.transformers_models import CannotBuildError, build

Shapes = Mapping[str, tuple[int, ...]]


def checkpoint(shapes: Shapes, config: Mapping[str, Any]) -> Checkpoint:
    file = Path("x.safetensors")
    tensors = {name: TensorInfo(name, Stored(name, "F32", shape, file, 0)) for name, shape in shapes.items()}
    return Checkpoint(ModelReference("m"), Path(), tensors, (), config)


def of_class(config: Mapping[str, Any]) -> Checkpoint:
    """A checkpoint with every tensor of the class that a config names, by its names in the model."""
    model = build(config)
    return checkpoint({name: shape for name, shape in model.shapes.items() if name not in model.ties}, config)


def described(one: Checkpoint) -> Description:
    found = describe(one)
    assert found is not None
    return found


def llama_shapes(layers: int, tied: bool = False) -> Shapes:
    return {name: tuple(tensor.shape) for name, tensor in llama(layers, 0.0, tied=tied).items()}


SMALL = {"hidden_size": 8, "intermediate_size": 8, "num_attention_heads": 2, "vocab_size": 16}
TEXT = {**SMALL, "num_key_value_heads": 1, "num_hidden_layers": 2, "head_dim": 4}


def test_it_is_asked_before_names_and_only_where_it_matters() -> None:
    (architecture,) = mergecore_architectures()
    assert architecture.summary
    assert replace(architecture, summary="") == Architecture(
        name="transformers",
        describe=describe,
        rank=40,
        slow=True,
        loadability=loadability,
        map_keys=map_keys,
        loaded=loaded,
        keeps_f32=keeps_f32,
        completed=completed,
    )


def test_a_llama_is_what_the_names_say() -> None:
    found = described(checkpoint(llama_shapes(2), llama_config(2)))
    assert (found.by, found.family) == ("transformers", "llama")
    assert found.main == Stack("model.layers.", 2)
    assert found.layer_count_key == ("num_hidden_layers",)
    assert found.tied == {}
    assert found.tensors["lm_head.weight"].vocabulary_axis == 0
    assert found.tensors["model.layers.1.self_attn.q_proj.weight"].role == "attn.q"


def test_a_tie_holds_both_ways() -> None:
    config = llama_config(2, tie_word_embeddings=True)
    shapes = dict(llama_shapes(2, tied=True))
    assert described(checkpoint(shapes, config)).tied == {"lm_head.weight": "model.embed_tokens.weight"}
    shapes["lm_head.weight"] = shapes.pop("model.embed_tokens.weight")
    assert described(checkpoint(shapes, config)).tied == {"model.embed_tokens.weight": "lm_head.weight"}


def test_the_key_of_the_layers_is_the_one_that_moves_them() -> None:
    """As many layers in the encoder as in the decoder; `num_layers` is the name of the former."""
    config = {
        "architectures": ["T5ForConditionalGeneration"],
        "model_type": "t5",
        "num_layers": 2,
        "num_decoder_layers": 2,
        "d_model": 8,
        "d_ff": 8,
        "d_kv": 4,
        "num_heads": 2,
        "vocab_size": 16,
    }
    found = described(of_class(config))
    assert found.main == Stack("decoder.block.", 2)
    assert found.layer_count_key == ("num_decoder_layers",)
    shared = {"encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "lm_head.weight"}
    assert found.tied == dict.fromkeys(shared, "shared.weight")


def test_a_model_that_counts_its_layers_by_a_list() -> None:
    config = {
        "architectures": ["NemotronHForCausalLM"],
        "model_type": "nemotron_h",
        **SMALL,
        "layers_block_type": ["mamba", "attention"],
        "mamba_num_heads": 4,
        "mamba_head_dim": 4,
        "n_groups": 1,
        "ssm_state_size": 4,
        "num_key_value_heads": 1,
        "head_dim": 4,
    }
    assert described(of_class(config)).layer_count_key == ("layers_block_type",)


def test_the_stack_of_text_is_found_among_those_of_a_model_that_sees() -> None:
    vision = {
        **SMALL,
        "num_hidden_layers": 3,
        "image_size": 8,
        "patch_size": 4,
        "model_type": "clip_vision_model",
    }
    config = {
        "architectures": ["LlavaForConditionalGeneration"],
        "model_type": "llava",
        "text_config": {**TEXT, "model_type": "llama"},
        "vision_config": vision,
        "image_token_index": 15,
    }
    found = described(of_class(config))
    assert found.main == Stack("model.language_model.layers.", 2)
    assert found.layer_count_key == ("text_config", "num_hidden_layers")


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({}, r"transformers [\d.]+ knows no model type 'None'"),
        ({"model_type": "unheard"}, r"transformers [\d.]+ knows no model type 'unheard'"),
        (
            {"model_type": "llama", "architectures": ["Unheard"]},
            r"transformers [\d.]+ has no class 'Unheard'",
        ),
        ({"model_type": "llama", "architectures": ["LlamaConfig"]}, "has no class 'LlamaConfig'"),
        ({"model_type": "llama"}, "has no class 'None'"),
        (llama_config(10**9), "num_hidden_layers 1000000000 is not plausible"),
        (llama_config(2, hidden_size="wide"), "does not make a model of its config: "),
    ],
)
def test_what_transformers_does_not_know_it_says_nothing_of(config: Mapping[str, Any], told: str) -> None:
    with pytest.raises(CannotBuildError, match=told):
        build(config)
    assert describe(checkpoint(llama_shapes(2), config)) is None


def test_a_model_whose_tensors_are_others_is_not_the_one_on_disk() -> None:
    shapes = {name.replace("self_attn", "attention"): shape for name, shape in llama_shapes(2).items()}
    assert describe(checkpoint(shapes, llama_config(2))) is None
    shapes = {name: (*shape, 2) for name, shape in llama_shapes(2).items()}
    assert describe(checkpoint(shapes, llama_config(2))) is None


def test_one_strange_tensor_keeps_its_place() -> None:
    """Of 22 tensors one is strange: 95.5 % are known."""
    shapes = {**llama_shapes(2), "model.layers.1.strange": (3,)}
    found = described(checkpoint(shapes, llama_config(2)))
    assert found.tensors["model.layers.1.strange"].layer == 1
    assert set(found.tensors) == set(shapes)


def test_no_private_setting_of_a_config_reaches_transformers(monkeypatch: pytest.MonkeyPatch) -> None:
    config = llama_config(1, _attn_implementation_internal="evil/kernel", attn_implementation="evil/kernel")
    settings: Any = build({**config, "auto_map": {"AutoModel": "evil.Evil"}}).model.config
    assert settings._attn_implementation == "eager"
    assert not hasattr(settings, "auto_map")


def test_a_release_without_conversions_of_names_is_no_describer(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*_: object) -> None:
        raise CannotBuildError("this release of transformers has no conversion of names")

    monkeypatch.setattr(transformers_models, "_renamed", gone)
    assert describe(checkpoint(llama_shapes(2), llama_config(2))) is None


# ---- layers of others --------------------------------------------------------------------------------------


def proposed(
    primary: Checkpoint, config: Mapping[str, Any], *layers: int, prefix: str = "model.layers."
) -> Proposal:
    """The model of these layers of the primary model."""
    shapes = {name: one.shape for name, one in primary.tensors.items() if not name.startswith(prefix)}
    for i, layer in enumerate(layers):
        start = f"{prefix}{layer}."
        own = {name: one.shape for name, one in primary.tensors.items() if name.startswith(start)}
        shapes |= {f"{prefix}{i}.{name.removeprefix(start)}": shape for name, shape in own.items()}
    sources = tuple((primary.config, one) for one in layers)
    return Proposal(primary, config, shapes, (Layers(prefix, ("num_hidden_layers",), sources),))


def test_layers_that_are_all_alike_can_be_stacked() -> None:
    primary = checkpoint(llama_shapes(2), llama_config(2))
    config = llama_config(3)
    found = loadability(proposed(primary, config, 0, 1, 1))
    assert found is not None
    assert (found.config, found.faults) == (config, ())


def test_a_config_that_says_another_number_of_layers_is_told() -> None:
    primary = checkpoint(llama_shapes(2), llama_config(2))
    more = loadability(proposed(primary, llama_config(3), 0, 1))
    fewer = loadability(proposed(primary, llama_config(1), 0, 1))
    assert more is not None
    assert more.faults == ("9 tensors would be missing, such as 'model.layers.2.self_attn.q_proj.weight'",)
    assert fewer is not None
    assert fewer.faults == ("9 tensors would not be loaded, such as 'model.layers.1.input_layernorm.weight'",)


GEMMA = {
    "architectures": ["Gemma3ForCausalLM"],
    "model_type": "gemma3_text",
    **TEXT,
    "num_hidden_layers": 3,
    "sliding_window_pattern": 2,
}


def test_what_a_config_derives_from_positions_is_written_down_when_they_change() -> None:
    """Every second layer attends to everything; the layers 1, 2 and 1 are one of these, none, and one."""
    primary = of_class(GEMMA)
    found = loadability(proposed(primary, GEMMA, 1, 2, 1))
    assert found is not None
    full, sliding = "full_attention", "sliding_attention"
    assert found.config == {**GEMMA, "layer_types": [full, sliding, full]}
    assert found.faults == ()


def test_a_setting_that_no_list_can_replace_is_told() -> None:
    """Every second layer has attention, the others a state space; after 0, 1, 1 one stands in the wrong place."""
    config = {
        "architectures": ["JambaForCausalLM"],
        "model_type": "jamba",
        **SMALL,
        "num_key_value_heads": 1,
        "num_hidden_layers": 2,
        "attn_layer_period": 2,
        "attn_layer_offset": 1,
        "num_experts": 1,
        "mamba_dt_rank": 2,
    }
    found = loadability(proposed(of_class(config), {**config, "num_hidden_layers": 3}, 0, 1, 1))
    assert found is not None
    assert len(found.faults) == 2
    assert found.faults[0].startswith("12 tensors would be missing, such as 'model.layers.2.mamba.")
    assert "would not be loaded, such as 'model.layers.2.self_attn." in found.faults[1]


def test_tensors_of_another_shape_are_told() -> None:
    primary = checkpoint(llama_shapes(2), llama_config(2))
    proposal = proposed(primary, llama_config(2, intermediate_size=12), 0, 1)
    found = loadability(proposal)
    assert found is not None
    assert found.faults == (
        "6 tensors would have another shape, such as 'model.layers.0.mlp.down_proj.weight'",
    )


def test_a_config_that_its_class_refuses_is_told() -> None:
    primary = of_class(GEMMA)
    found = loadability(proposed(primary, {**GEMMA, "layer_types": ["full_attention"]}, 0, 1, 2))
    assert found is not None
    assert "transformers does not make a model of its config: " in found.faults[0]


def test_what_the_donor_lacks_itself_is_no_fault() -> None:
    """A tensor too many in a layer of the primary model, and so in the stacked ones."""
    shapes = {**llama_shapes(2), "model.layers.0.rotary_emb.inv_freq": (1,)}
    primary = checkpoint(shapes, llama_config(2))
    found = loadability(proposed(primary, llama_config(3), 1, 0, 0))
    assert found is not None
    assert found.faults == ()


def test_of_a_model_that_is_not_the_one_on_disk_nothing_is_said() -> None:
    shapes = {name.replace("self_attn", "attention"): shape for name, shape in llama_shapes(2).items()}
    assert loadability(proposed(checkpoint(shapes, llama_config(2)), llama_config(1), 0)) is None
    assert loadability(proposed(checkpoint(shapes, {}), {}, 0)) is None
