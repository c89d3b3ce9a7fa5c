"""Merge configs: what the grammar reads."""

from __future__ import annotations

import pytest
from merge_configs import faults, params_of, read, two_models

from mergecore.config.grammar import (
    TokenizerConfig,
    parameter_sources,
    read_config,
)
from mergecore.config.values import OtherToken, ZeroToken
from mergecore.errors import ConfigError
from mergecore.files.yaml_document import Document, parse_document
from mergecore.types import Json, ModelReference

# ---- what is read ------------------------------------------------------------------------------------------


def test_models_with_parameters_are_read() -> None:
    config = read(two_models())
    assert config.merge_method == "linear"
    assert config.models is not None
    assert [(str(entry.model), entry.parameters) for entry in config.models] == [
        ("m/a", {"weight": 0.5}),
        ("m/bad", {"weight": 0.5}),
    ]
    assert (config.seed, config.dtype, config.vocabulary, config.output.writer) == (
        0,
        None,
        None,
        "safetensors",
    )


FULL = """\
merge_method: ties
name: mine
seed: 7
base_model: org/base@v1
dtype: float32
out_dtype: torch.bfloat16
chat_template: auto
parameters: {lambda: 0.5}
output: {writer: safetensors, shard_size: 5GB}
tokenizer:
  source: m/a
  pad_to_multiple_of: 16
  compat: mergekit
  tokens:
    <a>: {source: {kind: zero}}
    <b>: {source: {kind: model_token, model: m/b, token_id: 5}, force: yes}
    <c>: {source: m/b}
    <d>:
      source: {kind: model_token, model: m/b, token: x}
slices:
  - sources:
      - {model: m/a, layer_range: [0, 2], parameters: {weight: 1}}
      - {model: m/a, layer_range: ["1", 3], parameters: {weight: 2}}
    parameters: {density: 0.5}
    base_model: {model: m/a}
    """


def test_every_key_is_read() -> None:
    config = read(FULL)
    assert (config.dtype, config.out_dtype, config.output.params) == ("F32", "BF16", {"shard_size": "5GB"})
    assert config.base_model == ModelReference("org/base", "v1")
    assert (config.name, config.seed, config.chat_template) == ("mine", 7, "auto")
    assert config.slices is not None
    assert [source.layer_range for source in config.slices[0].sources] == [(0, 2), (1, 3)]
    assert config.slices[0].base_model == ModelReference("m/a")
    vocabulary = config.vocabulary
    assert vocabulary is not None
    assert vocabulary.tokens is not None
    b = ModelReference("m/b")
    assert [token.source for token in vocabulary.tokens.values()] == [
        ZeroToken(),
        OtherToken(b, token_id=5),
        b,
        OtherToken(b, "x"),
    ]
    assert vocabulary.tokens["<b>"].force
    assert (vocabulary.source, vocabulary.pad_to_multiple_of) == (ModelReference("m/a"), 16)


def test_the_short_form_of_the_tokenizer_means_the_same() -> None:
    config = read("tokenizer_source: base\n" + two_models())
    assert config.vocabulary == TokenizerConfig.model_validate({"source": "base"})


def test_empty_values_count_as_not_written() -> None:
    text = "merge_method: linear\nslices: []\nparameters:\nmodels: [{model: a, parameters: }]\ntokenizer:\n"
    config = read(text)
    assert (config.parameters, config.tokenizer, config.slices) == ({}, None, ())


def test_a_model_may_stand_in_a_slice_twice() -> None:
    sources = "{model: a, layer_range: [0, 1]}, {model: a, layer_range: [1, 2]}"
    assert faults(f"merge_method: linear\nslices: [{{sources: [{sources}]}}]\n") == []


def test_a_config_need_not_come_from_text() -> None:
    data: dict[str, Json] = {
        "merge_method": "linear",
        "models": [{"model": "a", "parameters": {"wieght": 1}}],
    }
    with pytest.raises(ConfigError, match=r"^linear has no parameter 'wieght'; did you mean 'weight'\?"):
        read_config(Document("<config>", data), params_of)


def test_without_knowledge_of_methods_only_the_form_of_parameters_is_checked() -> None:
    document = parse_document("merge_method: new\nmodels: [{model: a, parameters: {x: 1, y: }}]\n", "c.yml")
    with pytest.raises(ConfigError, match=r"^c\.yml:2:43: parameter 'y' has no value"):
        read_config(document)


def test_every_mapping_of_parameters_is_found_with_its_path() -> None:
    shared, single = parameter_sources(parse_document(FULL).data)
    assert [source.path for source in shared] == [("parameters",), ("slices", 0, "parameters")]
    assert [source.path for source in single] == [
        ("slices", 0, "sources", 0, "parameters"),
        ("slices", 0, "sources", 1, "parameters"),
    ]
    modules = "modules: {models: {models: [{model: a, parameters: {w: 1}}], parameters: {w: 2}}}"
    shared, single = parameter_sources(parse_document(modules).data)
    assert [source.path for source in shared] == [("modules", "models", "parameters")]
    assert [source.path for source in single] == [("modules", "models", "models", 0, "parameters")]
