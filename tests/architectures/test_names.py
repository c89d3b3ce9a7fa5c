"""Descriptions from names, shapes and the config alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from mergecore.types import Checkpoint, Description, ModelReference, Stack, Stored, TensorFacts, TensorInfo
from mergecore_architectures.names import describe, mergecore_architectures

V, D = 10, 4  # rows of the vocabulary, width


def checkpoint(shapes: Mapping[str, tuple[int, ...]], config: dict[str, Any] | None = None) -> Checkpoint:
    file = Path("x.safetensors")
    tensors = {name: TensorInfo(name, Stored(name, "F32", shape, file, 0)) for name, shape in shapes.items()}
    return Checkpoint(ModelReference("m"), Path(), tensors, (), config or {})


def described(shapes: Mapping[str, tuple[int, ...]], config: dict[str, Any] | None = None) -> Description:
    return describe(checkpoint(shapes, config))


def layers(prefix: str, count: int, *suffixes: str) -> dict[str, tuple[int, ...]]:
    suffixes = suffixes or ("self_attn.q_proj.weight", "mlp.up_proj.weight", "input_layernorm.weight")
    return {f"{prefix}{i}.{suffix}": (D, D) for i in range(count) for suffix in suffixes}


LLAMA = {
    "model.embed_tokens.weight": (V, D),
    **layers("model.layers.", 2),
    "model.norm.weight": (D,),
    "lm_head.weight": (V, D),
}


def test_a_llama() -> None:
    config = {"model_type": "llama", "num_hidden_layers": 2, "vocab_size": V, "num_attention_heads": 2}
    found = described(LLAMA, config)
    assert (found.by, found.family) == ("names", "llama")
    assert found.stacks == (Stack("model.layers.", 2),)
    assert found.main == Stack("model.layers.", 2)
    assert found.layer_count_key == ("num_hidden_layers",)
    assert found.tied == {}
    assert set(found.tensors) == set(LLAMA)
    q = TensorFacts("model.layers.", 1, "self_attn.q_proj.weight", role="attn.q")
    assert found.tensors["model.layers.1.self_attn.q_proj.weight"] == q
    head = TensorFacts(None, None, "lm_head.weight", after=True, role="head", vocabulary_axis=0)
    assert found.tensors["lm_head.weight"] == head
    norm = TensorFacts(None, None, "model.norm.weight", after=True, role="norm")
    assert found.tensors["model.norm.weight"] == norm
    embed = TensorFacts(None, None, "model.embed_tokens.weight", role="embed", vocabulary_axis=0)
    assert found.tensors["model.embed_tokens.weight"] == embed


def test_a_tied_gpt2() -> None:
    shapes = {
        "transformer.wte.weight": (V, D),
        "transformer.wpe.weight": (V, D),  # as many positions as tokens, yet no vocabulary
        **layers("transformer.h.", 3, "ln_1.weight", "attn.c_attn.weight", "mlp.c_fc.weight"),
        "transformer.ln_f.weight": (D,),
    }
    found = described(shapes, {"architectures": ["GPT2LMHeadModel"], "n_layer": 3, "vocab_size": V})
    assert found.family == "GPT2LMHeadModel"
    assert found.layer_count_key == ("n_layer",)
    assert found.tied == {"lm_head.weight": "transformer.wte.weight"}
    assert found.tensors["transformer.wpe.weight"].vocabulary_axis is None
    assert found.tensors["transformer.ln_f.weight"].after


@pytest.mark.parametrize(
    ("config", "tied"),
    [
        ({"tie_word_embeddings": True}, True),
        ({"tie_word_embeddings": False, "architectures": ["LlamaForCausalLM"]}, False),
        ({"architectures": ["GemmaForCausalLM"]}, True),  # unsaid, and there is no other head
        ({"architectures": ["LlamaModel"]}, False),
        ({"tie_word_embeddings": False, "text_config": {"tie_word_embeddings": True}}, True),
        ({}, False),
    ],
)
def test_a_missing_head_is_tied_when_the_config_says_or_implies_it(
    config: dict[str, Any], tied: bool
) -> None:
    shapes = {name: shape for name, shape in LLAMA.items() if name != "lm_head.weight"}
    expected = {"lm_head.weight": "model.embed_tokens.weight"} if tied else {}
    assert described(shapes, config).tied == expected


def test_a_head_on_disk_is_not_tied_whatever_the_config_says() -> None:
    assert described(LLAMA, {"tie_word_embeddings": True}).tied == {}


def test_a_classifier_has_no_head_to_tie() -> None:
    shapes = {**LLAMA, "score.weight": (2, D)}
    del shapes["lm_head.weight"]
    found = described(shapes, {"tie_word_embeddings": True, "vocab_size": 2})
    assert found.tied == {}
    assert found.tensors["score.weight"].vocabulary_axis is None
    assert found.tensors["score.weight"].after


def test_a_masked_language_model_without_its_decoder() -> None:
    shapes = {
        "bert.embeddings.word_embeddings.weight": (V, D),
        "bert.embeddings.LayerNorm.weight": (D,),
        **layers("bert.encoder.layer.", 2),
        "cls.predictions.transform.dense.weight": (V, V),
        "cls.predictions.bias": (V,),
    }
    found = described(shapes, {"num_hidden_layers": 2, "vocab_size": V, "tie_word_embeddings": True})
    assert found.main == Stack("bert.encoder.layer.", 2)
    assert found.tied == {"cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight"}
    assert found.tensors["cls.predictions.bias"].vocabulary_axis == 0
    assert found.tensors["cls.predictions.transform.dense.weight"].vocabulary_axis is None
    assert not found.tensors["bert.embeddings.LayerNorm.weight"].after


def test_an_encoder_decoder_is_sliced_in_its_decoder() -> None:
    shapes = {
        "shared.weight": (V, D),
        **layers("encoder.block.", 2),
        "encoder.final_layer_norm.weight": (D,),
        **layers("decoder.block.", 2),
        "decoder.final_layer_norm.weight": (D,),
        "final_logits_bias": (1, V),
    }
    found = described(shapes, {"num_layers": 2, "num_decoder_layers": 2, "vocab_size": V})
    assert found.main == Stack("decoder.block.", 2)
    assert found.layer_count_key == ("num_decoder_layers",)
    assert found.tensors["decoder.final_layer_norm.weight"].after
    assert not found.tensors["encoder.final_layer_norm.weight"].after
    assert found.tensors["encoder.block.0.mlp.up_proj.weight"].stack == "encoder.block."
    assert found.tensors["final_logits_bias"].vocabulary_axis == 1


def test_a_model_that_sees() -> None:
    shapes = {
        **layers("vision_tower.encoder.layers.", 2),
        "vision_tower.post_layernorm.weight": (D,),
        "multi_modal_projector.linear_1.weight": (D, D),
        **{f"language_model.{name}": shape for name, shape in LLAMA.items() if name != "lm_head.weight"},
    }
    config = {
        "vision_config": {"num_hidden_layers": 2, "vocab_size": 99},
        "text_config": {"num_hidden_layers": 2, "tie_word_embeddings": True, "vocab_size": V},
    }
    found = described(shapes, config)
    assert found.main == Stack("language_model.model.layers.", 2)
    assert found.layer_count_key == ("text_config", "num_hidden_layers")
    assert found.tied == {"language_model.lm_head.weight": "language_model.model.embed_tokens.weight"}
    roles = {name: facts.role for name, facts in found.tensors.items()}
    assert roles["vision_tower.encoder.layers.0.self_attn.q_proj.weight"] == "vision.attn.q"
    assert roles["vision_tower.post_layernorm.weight"] == "vision.norm"
    assert roles["multi_modal_projector.linear_1.weight"] == "vision"
    assert roles["language_model.model.layers.0.self_attn.q_proj.weight"] == "attn.q"
    assert not found.tensors["vision_tower.post_layernorm.weight"].after


def test_a_vision_model_alone_has_its_stack() -> None:
    shapes = layers("vit.encoder.layer.", 2)
    found = described(shapes, {"num_hidden_layers": 2})
    assert found.main == Stack("vit.encoder.layer.", 2)
    assert found.layer_count_key == ("num_hidden_layers",)


def test_experts_and_routers() -> None:
    suffixes = ("mlp.gate.weight", "mlp.experts.0.up_proj.weight", "mlp.experts.1.up_proj.weight")
    found = described(layers("model.layers.", 1, *suffixes))
    roles = [facts.role for facts in found.tensors.values()]
    assert roles == ["router", "expert.up", "expert.up"]


def test_layers_that_predict_tokens_ahead_follow_the_others() -> None:
    shapes = {**LLAMA, **layers("mtp.layers.", 1), "mtp.fc.weight": (D, 2 * D)}
    found = described(shapes, {"num_hidden_layers": 2, "num_nextn_predict_layers": 1})
    assert found.main == Stack("model.layers.", 2)
    assert found.tensors["mtp.fc.weight"].after
    assert found.tensors["mtp.layers.0.mlp.up_proj.weight"].after
    assert found.tensors["mtp.layers.0.mlp.up_proj.weight"].role == "mlp.up"


def test_layers_ahead_in_the_same_stack_are_not_of_its_layers() -> None:
    """As DeepSeek-V3 has them: layer 2 of 3 predicts a further token, and the config counts 2."""
    shapes = {**LLAMA, **layers("model.layers.", 3), "model.layers.2.eh_proj.weight": (D, 2 * D)}
    found = described(shapes, {"num_hidden_layers": 2, "num_nextn_predict_layers": 1})
    assert found.main == Stack("model.layers.", 2)
    assert found.stacks == (Stack("model.layers.", 2),)
    assert found.layer_count_key == ("num_hidden_layers",)
    ahead = found.tensors["model.layers.2.mlp.up_proj.weight"]
    assert (ahead.stack, ahead.layer, ahead.after) == ("model.layers.", 2, True)
    assert described(shapes, {"num_hidden_layers": 3}).main == Stack("model.layers.", 3)
    assert described(shapes, {"num_hidden_layers": 1}).main == Stack("model.layers.", 3)


def test_of_equal_stacks_the_config_decides() -> None:
    shapes = {**layers("a.", 2), **layers("b.", 3)}
    assert described(shapes, {"num_layers": 3}).main == Stack("b.", 3)
    assert described(shapes, {"num_layers": 4}).main is None
    assert described(shapes, {}).layer_count_key is None
    assert described({**layers("a.", 2), **layers("b.", 2)}, {"num_layers": 2}).main is None


def test_short_sequences_of_modules_are_no_layers_to_slice() -> None:
    shapes = {**layers("net.layers.", 4), "classifier.0.weight": (D, D), "classifier.1.weight": (D, D)}
    assert described(shapes).main == Stack("net.layers.", 4)
    assert described({"0.weight": (D, D), "1.weight": (D, D)}).main == Stack("", 2)


def test_numbers_with_gaps_are_no_stack() -> None:
    found = described({"mlp1.0.weight": (D,), "mlp1.2.weight": (D,)})
    assert found.stacks == ()
    assert found.main is None
    assert found.tensors["mlp1.2.weight"] == TensorFacts(None, None, "mlp1.2.weight")


@pytest.mark.parametrize("count", [1_000_000_000, -1, 2.0, "2", True, None, [2]])
def test_a_false_layer_count_is_not_followed(count: object) -> None:
    assert described(LLAMA, {"num_hidden_layers": count}).layer_count_key is None


def test_padded_rows_are_a_vocabulary_and_an_unnamed_table_is_one_by_its_size() -> None:
    padded = {"model.embed_tokens.weight": (V + 6, D), "lm_head.weight": (V + 6, D), "lm_head.bias": (V + 6,)}
    found = described(padded, {"vocab_size": V})
    assert [facts.vocabulary_axis for facts in found.tensors.values()] == [0, 0, 0]
    table = {"backbone.embeddings.weight": (V, D)}
    assert described(table, {"vocab_size": V}).tensors["backbone.embeddings.weight"].vocabulary_axis == 0
    assert described(table, {"vocab_size": 7}).tensors["backbone.embeddings.weight"].vocabulary_axis is None


def test_an_empty_config_and_strange_names_do_no_harm() -> None:
    strange = {".": (1,), "..": (1,), "a.": (1,), ".0.": (1,), "0.0.0": (1,), "": (1,), "\u0660.w": (1,)}
    found = described(strange, {"architectures": [], "text_config": None, "tie_word_embeddings": "yes"})
    assert set(found.tensors) == set(strange)
    assert found.family == ""


def test_the_hook_yields_the_describer_that_is_asked_last() -> None:
    (architecture,) = mergecore_architectures()
    assert (architecture.name, architecture.rank, architecture.describe) == ("names", 90, describe)


def test_what_ends_a_part_beside_the_text_is_known() -> None:
    """SigLIP within a model that speaks; its head pools, the last norm comes before."""
    shapes = {
        "vision_tower.embeddings.patch_embedding.weight": (D, D),
        **layers("vision_tower.encoder.layers.", 2),
        "vision_tower.post_layernorm.weight": (D,),
        "vision_tower.head.probe": (1, D),
        **{f"language_model.{name}": shape for name, shape in LLAMA.items()},
    }
    found = described(shapes).tensors
    ends = [name for name, facts in found.items() if facts.ends_module]
    assert ends == ["vision_tower.post_layernorm.weight", "vision_tower.head.probe"]
    after = [name for name, facts in found.items() if facts.after]
    assert after == ["language_model.model.norm.weight", "language_model.lm_head.weight"]


def test_a_head_for_each_codebook_comes_after_the_layers() -> None:
    shapes = {
        "decoder.embed_tokens.0.weight": (V, D),
        "decoder.embed_tokens.1.weight": (V, D),
        **layers("decoder.layers.", 2),
        "lm_heads.0.weight": (V, D),
        "lm_heads.1.weight": (V, D),
    }
    found = described(shapes).tensors
    assert [name for name, facts in found.items() if facts.after] == [
        "lm_heads.0.weight",
        "lm_heads.1.weight",
    ]
