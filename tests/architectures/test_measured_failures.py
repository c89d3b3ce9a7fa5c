"""What other merging tools were measured to lose, to mix up or to refuse, with tiny models: here it works.

That every tensor arrives, of these classes and all others, is tested by `test_every_class`; here are the cases that
take more than merging a model with its like.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from tiny import llama, llama_config, read_tensors, registry, write_checkpoint, write_llama
from tiny_tokenizers import TOKENS, tokenizer_json
from torch import Tensor
from zoo.classes import Entry, tiny_model

from mergecore import merge, plan
from mergecore.errors import ConfigError
from mergecore.plugins.registry import Registry
from mergecore.types import Architecture, Checkpoint, Description, Json, MovedRows

Ranges = Sequence[tuple[int, int]]


def save(name: str, folder: Path) -> Any:
    """Save a tiny model of a class; the class."""
    model = tiny_model(Entry(*name.split("/")), torch.float32)
    model.save_pretrained(folder)
    return type(model)


def stack(folder: Path, out: Path, ranges: Ranges) -> Path:
    """Put a model together of ranges of its own layers."""
    sources: list[Json] = [{"sources": [{"model": str(folder), "layer_range": list(one)}]} for one in ranges]
    return merge({"merge_method": "passthrough", "slices": sources}, out, registry=registry())


def loaded(cls: Any, folder: Path) -> Any:
    """The model in `folder`; transformers must miss nothing and find nothing strange."""
    logging.getLogger("transformers").setLevel(logging.CRITICAL)
    model, told = cls.from_pretrained(folder, output_loading_info=True)
    assert not told["missing_keys"]
    assert not told["unexpected_keys"]
    assert not told["mismatched_keys"]
    return model


def text_config(folder: Path) -> Mapping[str, Any]:
    config = json.loads((folder / "config.json").read_text())
    found: Mapping[str, Any] = config.get("text_config", config)
    return found


# ---- layers ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "cohere2/Cohere2ForCausalLM",
        "gemma2/Gemma2ForCausalLM",
        "gemma3/Gemma3ForConditionalGeneration",
        "gemma3_text/Gemma3ForCausalLM",
        "granitemoehybrid/GraniteMoeHybridForCausalLM",
        "lfm2/Lfm2ForCausalLM",
        "qwen2/Qwen2ForCausalLM",
        "qwen3/Qwen3ForCausalLM",
        "qwen3_next/Qwen3NextForCausalLM",
    ],
)
def test_lists_of_layers_follow_the_layers(name: str, tmp_path: Path) -> None:
    """Others keep the list, and the merge ends with weights that have no config."""
    cls = save(name, tmp_path / "a")
    out = stack(tmp_path / "a", tmp_path / "out", [(0, 4), (1, 4)])
    before, after = (text_config(folder)["layer_types"] for folder in (tmp_path / "a", out))
    assert after == [*before, *before[1:]]
    loaded(cls, out)


def test_dense_layers_and_experts_are_stacked_over_the_boundary(tmp_path: Path) -> None:
    """Layer 0 is dense, the others have experts; others zip the tensors of layers by position and fail."""
    cls = save("glm4_moe/Glm4MoeForCausalLM", tmp_path / "a")
    out = stack(tmp_path / "a", tmp_path / "out", [(0, 2), (1, 4)])
    assert text_config(out)["num_hidden_layers"] == 5
    assert text_config(out)["first_k_dense_replace"] == 1
    loaded(cls, out)
    before, after = read_tensors(tmp_path / "a"), read_tensors(out)
    name = "mlp.experts.3.down_proj.weight"
    assert after[f"model.layers.2.{name}"].equal(before[f"model.layers.1.{name}"])
    fewer = stack(tmp_path / "a", tmp_path / "fewer", [(1, 4)])
    assert text_config(fewer)["first_k_dense_replace"] == 0
    loaded(cls, fewer)


def test_a_dense_layer_among_experts_is_refused(tmp_path: Path) -> None:
    save("glm4_moe/Glm4MoeForCausalLM", tmp_path / "a")
    with pytest.raises(ConfigError, match="a model of these layers could not be loaded: ") as caught:
        stack(tmp_path / "a", tmp_path / "out", [(0, 2), (0, 2)])
    assert caught.value.code == "E113"
    assert not (tmp_path / "out").exists()


def test_a_layer_that_predicts_ahead_stays_behind_the_stacked_ones(tmp_path: Path) -> None:
    """Transformers leaves it out when it saves; here it is a copy of the last layer with what makes it one."""
    save("glm4_moe/Glm4MoeForCausalLM", tmp_path / "a")
    tensors = read_tensors(tmp_path / "a")
    last, ahead = "model.layers.3.", "model.layers.4."
    tensors |= {
        ahead + name.removeprefix(last): one.clone() for name, one in tensors.items() if name.startswith(last)
    }
    tensors[ahead + "eh_proj.weight"] = torch.ones(2, 4)
    save_file(tensors, tmp_path / "a" / "model.safetensors", metadata={"format": "pt"})
    ranges: list[list[Json]] = [[0, 3], [1, 4]]
    sources: list[Json] = [
        {"sources": [{"model": str(tmp_path / "a"), "layer_range": one}]} for one in ranges
    ]
    made = plan({"merge_method": "passthrough", "slices": sources}, registry=registry())
    assert made.warnings == ()
    moved = {step.name: step.inputs[0].tensor.name for step in made.steps}
    assert moved["model.layers.6.eh_proj.weight"] == ahead + "eh_proj.weight"
    assert moved["model.layers.5.mlp.gate.weight"] == last + "mlp.gate.weight"


def test_the_layers_of_a_decoder_are_stacked_beside_its_encoder(tmp_path: Path) -> None:
    cls = save("t5/T5ForConditionalGeneration", tmp_path / "a")
    out = stack(tmp_path / "a", tmp_path / "out", [(0, 4), (2, 4)])
    model = loaded(cls, out)
    assert (len(model.encoder.block), len(model.decoder.block)) == (4, 6)


def test_what_lies_behind_the_layers_is_merged_of_all_sources_of_the_last_slice(tmp_path: Path) -> None:
    """Others take as many models as the first slice has."""
    for value in (1.0, 2.0, 6.0):
        write_llama(tmp_path / f"m{value:.0f}", 2, value)
    sources: list[Json] = [{"model": str(tmp_path / f"m{i}"), "layer_range": [1, 2]} for i in (1, 2, 6)]
    config: dict[str, Json] = {
        "merge_method": "linear",
        "slices": [
            {"sources": [{"model": str(tmp_path / "m1"), "layer_range": [0, 1]}]},
            {"sources": sources},
        ],
        "parameters": {"weight": 1},
    }
    tensors = read_tensors(merge(config, tmp_path / "out", registry=registry()))
    assert tensors["lm_head.weight"].unique().tolist() == [3]
    assert tensors["model.embed_tokens.weight"].unique().tolist() == [1]


# ---- tensors that are no numbers to merge ------------------------------------------------------------------


def old_neox(value: float) -> dict[str, Tensor]:
    """A layer as old checkpoints of GPT-NeoX have it: with its causal mask and the frequencies of its positions."""
    prefix = "gpt_neox.layers.0.attention."
    return {
        "gpt_neox.embed_in.weight": torch.full((8, 4), float(value)),
        f"{prefix}bias": torch.ones(1, 1, 4, 4, dtype=torch.bool).tril(),
        f"{prefix}masked_bias": torch.tensor(-1e9),
        f"{prefix}rotary_emb.inv_freq": torch.tensor([1.0, 0.01]),
        f"{prefix}dense.weight": torch.full((4, 4), float(value)),
    }


def test_buffers_of_old_checkpoints_are_kept_as_they_are(tmp_path: Path) -> None:
    """Others demand them of new checkpoints, or make half precision numbers of the mask."""
    config: dict[str, Json] = {"model_type": "gpt_neox", "num_hidden_layers": 1, "vocab_size": 8}
    models: list[Json] = [
        {"model": str(write_checkpoint(tmp_path / f"m{value}", old_neox(value), config))} for value in (1, 3)
    ]
    document: dict[str, Json] = {
        "merge_method": "linear",
        "models": models,
        "dtype": "bfloat16",
        "parameters": {"weight": 1},
    }
    found = read_tensors(merge(document, tmp_path / "out", registry=registry()))
    mask = found["gpt_neox.layers.0.attention.bias"]
    assert mask.dtype == torch.bool
    assert mask.equal(old_neox(1)["gpt_neox.layers.0.attention.bias"])
    assert found["gpt_neox.layers.0.attention.dense.weight"].unique().tolist() == [2]


def test_positions_of_bert_stay_whole_numbers(tmp_path: Path) -> None:
    tensors = {f"encoder.layer.{i}.output.dense.weight": torch.full((2, 2), 1.0) for i in range(2)}
    tensors["embeddings.position_ids"] = torch.arange(4)[None]
    config: dict[str, Json] = {"model_type": "bert", "num_hidden_layers": 2}
    model = str(write_checkpoint(tmp_path / "a", tensors, config))
    other = str(write_checkpoint(tmp_path / "b", {**tensors, "pooler.dense.bias": torch.zeros(2)}, config))
    document: dict[str, Json] = {"merge_method": "linear", "models": [{"model": model}, {"model": other}]}
    document |= {"parameters": {"weight": 1}, "dtype": "bfloat16", "exclude": "pooler"}
    found = read_tensors(merge(document, tmp_path / "out", registry=registry()))
    assert found["embeddings.position_ids"].equal(torch.arange(4)[None])


# ---- descriptions ------------------------------------------------------------------------------------------


def test_a_tensor_that_no_description_knows_is_merged_too(tmp_path: Path) -> None:
    """Others write what their definition lists: these two would vanish without a word."""
    more = {"model.layers.0.self_attn.q_norm.weight": torch.ones(2), "strange.thing": torch.ones(3)}
    models = []
    for value in (1.0, 3.0):
        tensors = {**llama(1, value), **{name: one * value for name, one in more.items()}}
        models.append(str(write_checkpoint(tmp_path / f"m{value:.0f}", tensors, llama_config(1))))
    entries: list[Json] = [{"model": model} for model in models]
    document: dict[str, Json] = {"merge_method": "linear", "models": entries, "parameters": {"weight": 1}}
    found = read_tensors(merge(document, tmp_path / "out", registry=registry()))
    assert set(found) == {*llama(1), *more}
    assert all(one.unique().tolist() == [2] for one in found.values())


def forgetful(
    describe: Callable[[Checkpoint], Description | None], forgotten: str
) -> Callable[[Checkpoint], Description | None]:
    """A describer that does not know a tensor."""

    def less(checkpoint: Checkpoint) -> Description | None:
        found = describe(checkpoint)
        if found is None:
            return None
        return replace(found, tensors={name: one for name, one in found.tensors.items() if name != forgotten})

    return less


@pytest.mark.parametrize(
    "forgotten", ["model.layers.0.mlp.up_proj.weight", "model.norm.weight", "lm_head.weight"]
)
def test_a_name_that_a_description_forgets_changes_nothing(forgotten: str, tmp_path: Path) -> None:
    """Its role and its place are gone, not its numbers."""
    models: list[Json] = [{"model": str(write_llama(tmp_path / f"m{i}", 2, seed=i))} for i in range(2)]
    ranged: list[Json] = [{**one, "layer_range": [0, 2]} for one in models if isinstance(one, dict)]
    forgetting = Registry.discover()
    for architecture in forgetting.all(Architecture):
        object.__setattr__(architecture, "describe", forgetful(architecture.describe, forgotten))
    forms: tuple[dict[str, Json], ...] = ({"models": models}, {"slices": [{"sources": ranged}]})
    for number, form in enumerate(forms):
        document: dict[str, Json] = {"merge_method": "linear", **form, "parameters": {"weight": 1}}
        expected = read_tensors(merge(document, tmp_path / f"whole{number}", registry=registry()))
        found = read_tensors(merge(document, tmp_path / f"out{number}", registry=forgetting))
        assert found.keys() == expected.keys()
        assert all(found[name].equal(one) for name, one in expected.items())


def test_embeddings_are_the_only_tensors_with_a_row_for_each_token(tmp_path: Path) -> None:
    """Others take a norm of LFM2 and the patches of Qwen-VL for embeddings, and fail when vocabularies differ."""
    for name, embeddings in (
        ("lfm2/Lfm2ForCausalLM", {"model.embed_tokens.weight"}),
        (
            "qwen2_5_vl/Qwen2_5_VLForConditionalGeneration",
            {"model.embed_tokens.weight", "lm_head.weight"},
        ),
        (
            "qwen3_vl/Qwen3VLForConditionalGeneration",
            {"model.language_model.embed_tokens.weight", "lm_head.weight"},
        ),
    ):
        models: list[Json] = []
        for number, tokens in enumerate((TOKENS["BPE"], [*TOKENS["BPE"], "Q"])):
            folder = tmp_path / name / str(number)
            save(name, folder)
            (folder / "tokenizer.json").write_text(json.dumps(tokenizer_json("BPE", tokens)))
            models.append({"model": str(folder)})
        document: dict[str, Json] = {"merge_method": "linear", "models": models, "parameters": {"weight": 1}}
        made = plan({**document, "tokenizer": {"source": "union"}}, registry=registry())
        moved = {
            step.name
            for step in made.steps
            if any(isinstance(one.tensor.data, MovedRows) for one in step.inputs)
        }
        assert moved == embeddings


# ---- configs -----------------------------------------------------------------------------------------------

ROPE_OF_VERSION_4 = """{
  "architectures": [
    "LlamaForCausalLM"
  ],
  "head_dim": 2,
  "hidden_size": 4,
  "intermediate_size": 6,
  "model_type": "llama",
  "num_attention_heads": 2,
  "num_hidden_layers": 2,
  "num_key_value_heads": 2,
  "rope_scaling": {
    "factor": 8.0,
    "high_freq_factor": 4.0,
    "low_freq_factor": 1.0,
    "original_max_position_embeddings": 8192,
    "rope_type": "llama3"
  },
  "rope_theta": 500000.0,
  "tie_word_embeddings": false,
  "torch_dtype": "float32",
  "transformers_version": "4.42.3",
  "use_cache": true,
  "vocab_size": 8
}
"""


def test_a_config_of_version_4_keeps_its_rope_settings_to_the_byte(tmp_path: Path) -> None:
    """Others load and save it with version 5, after which version 4 finds no rope settings at all."""
    for name in "ab":
        (write_llama(tmp_path / name, 2) / "config.json").write_text(ROPE_OF_VERSION_4)
    models: list[Json] = [{"model": str(tmp_path / name)} for name in "ab"]
    document: dict[str, Json] = {"merge_method": "linear", "models": models, "parameters": {"weight": 1}}
    out = merge(document, tmp_path / "out", registry=registry())
    assert (out / "config.json").read_text() == ROPE_OF_VERSION_4
    stacked = stack(tmp_path / "a", tmp_path / "stacked", [(0, 2), (1, 2)])
    more = ROPE_OF_VERSION_4.replace('"num_hidden_layers": 2', '"num_hidden_layers": 3')
    assert (stacked / "config.json").read_text() == more


def test_a_head_that_one_model_has_unties_the_config(tmp_path: Path) -> None:
    """Others write the head beside a config that says it is the embeddings."""
    tied = write_llama(tmp_path / "tied", 1, 1.0, tie_word_embeddings=True)
    untied = write_llama(tmp_path / "untied", 1, 3.0)
    models: list[Json] = [{"model": str(tied)}, {"model": str(untied)}]
    document: dict[str, Json] = {"merge_method": "linear", "models": models, "parameters": {"weight": 1}}
    made = plan(document, registry=registry())
    assert "lm_head.weight" in {step.name for step in made.steps}
    config = made.side_files["config.json"]
    assert isinstance(config, bytes)
    assert json.loads(config)["tie_word_embeddings"] is False
