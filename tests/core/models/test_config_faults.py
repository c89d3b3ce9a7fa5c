"""A config.json that is wrong, or that the tensors deny."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from model_folders import CONFIG, ONE, arrays, edit_index, opened, refusal, write
from safetensors.numpy import save_file

from mergecore.errors import MergecoreError, Problems
from mergecore.models.folder import open_file, open_folder
from mergecore.models.input_folder import RemoteFile
from mergecore.types import ModelReference

# ---- config.json -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", r"^m/bad/config\.json: not valid JSON"),
        ("[]", r"config\.json: must be a JSON object"),
        ('{"hidden_size": 4, "hidden_size": 4}', r"'hidden_size' occurs twice"),
        ('{"num_hidden_layers": -1}', r"num_hidden_layers is -1; expected a whole number"),
        ('{"n_layer": 2.5}', r"n_layer is 2\.5"),
        ('{"vocab_size": "6"}', r"vocab_size is '6'"),
        ('{"hidden_size": true}', r"hidden_size is True"),
        ('{"text_config": {"num_hidden_layers": -2}}', r"text_config\.num_hidden_layers is -2"),
    ],
)
def test_a_config_that_cannot_be_one(text: str, message: str, model: Path) -> None:
    write(model, "config.json", text)
    refusal(model, "E220", message)


def test_a_missing_config_beside_a_tokenizer(model: Path) -> None:
    write(model, "tokenizer.json", "{}")
    (model / "config.json").unlink()
    refusal(model, "E220", r"^m/bad/config\.json: missing$")


def test_a_config_beyond_all_measure(model: Path) -> None:
    with (model / "config.json").open("wb") as file:
        file.truncate(64_000_001)
    refusal(model, "E308", r"config\.json: the file has 64000001 bytes, limit 64000000")


@pytest.mark.parametrize(
    ("name", "limit"),
    [("config.json", 64_000_000), ("LICENSE", 256_000_000), ("tokenizer.json", 256_000_000)],
)
def test_a_side_file_beyond_all_measure_is_refused_before_it_is_read(
    model: Path, name: str, limit: int
) -> None:
    """Reading 2 TB would take an hour."""
    with (model / name).open("wb") as file:
        file.truncate(2 * 10**12)
    error = refusal(model, "E308", rf"{name}: the file has 2000000000000 bytes, limit {limit}")
    assert not isinstance(error, Problems)  # one file, one error


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"num_hidden_layers": 10**9}, r"num_hidden_layers 1000000000, but the weights have 2 layers"),
        ({"num_hidden_layers": 1}, r"num_hidden_layers 1, but the weights have 2 layers"),
        ({"n_layer": 3}, r"n_layer 3, but the weights have 2 layers"),
        ({"num_hidden_layers": 2, "text_config": {"num_layers": 5}}, r"text_config\.num_layers 5, but"),
        ({"vocab_size": 999}, r"'model\.embed_tokens\.weight' has 6 rows, fewer than vocab_size 999"),
        ({"text_config": {"vocab_size": 7}}, r"'lm_head\.weight' has 6 rows, fewer than vocab_size 7"),
    ],
)
def test_a_config_that_the_tensors_deny(config: dict[str, Any], message: str, model: Path) -> None:
    write(model, "config.json", config)
    refusal(model, "E221", message)


def test_a_head_with_too_few_rows(model: Path) -> None:
    save_file({**arrays(), "lm_head.weight": np.zeros((5, 4), np.float32)}, model / "model.safetensors")
    refusal(
        model, "E221", r"'lm_head\.weight' has 5 rows, fewer than vocab_size 6\. Hint: correct it, or use"
    )


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"num_hidden_layers": None, "vocab_size": 5},  # rows of padding
        {"num_hidden_layers": 1, "num_nextn_predict_layers": 1},  # the last layer predicts a token ahead
        {"num_hidden_layers": 12, "num_hidden_groups": 2},  # layers share weights
        {"num_hidden_layers": 4, "num_recurrent_loops": 2},  # layers are used twice
        {"num_hidden_layers": 9, "text_config": {"num_hidden_layers": 2}},  # the top is not about the text
        {"vocab_size": 40, "decoder": {"decoder_vocab_size": 6}},  # which is which is not known
        {"hidden_size": [4, 8], "num_layers": [1, 1]},
    ],
)
def test_configs_that_only_look_wrong(config: dict[str, Any], model: Path) -> None:
    write(model, "config.json", config)
    assert opened(model).config == config


def test_layers_that_predict_tokens_ahead_are_known_by_their_tensors(model: Path) -> None:
    ahead = {"model.layers.2.eh_proj.weight": np.zeros((4, 8), np.float32)}
    save_file(arrays() | ahead, model / "model.safetensors")
    assert len(opened(model).tensors) == 6
    save_file(
        arrays() | {"model.layers.2.other.weight": np.zeros(4, np.float32)}, model / "model.safetensors"
    )
    refusal(
        model, "E221", r"num_hidden_layers 2, but the weights have 3 layers.*\. Hint: correct it, or use the"
    )


def test_the_rows_of_images_and_sound_are_no_tokens(model: Path) -> None:
    image = {"vision_model.embed_tokens.weight": np.zeros((2, 4), np.float32)}
    save_file(arrays() | image, model / "model.safetensors")
    assert len(opened(model).tensors) == 6


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            {"quantization_config": {"quant_method": "gptq", "bits": 4}},
            r"quantised \(gptq, 4 bits, quantization_c",
        ),
        ({"quantization_config": {"load_in_4bit": True}}, r"quantised \(bitsandbytes, 4 bits"),
        ({"quantization_config": {"quant_method": "fp8"}}, r"quantised \(fp8, quantization_config"),
        ({"quantization_config": {"w_bit": 4}}, r"quantised \(format not named, 4 bits"),
        (
            {"text_config": {"quantization_config": {"quant_method": "awq"}}},
            r"awq, text_config\.quantization_config",
        ),
        ({"compression_config": {"quant_method": "compressed-tensors"}}, r"compressed-tensors"),
    ],
)
def test_a_quantised_model_by_its_config(config: dict[str, Any], message: str, model: Path) -> None:
    write(model, "config.json", CONFIG | config)
    error = refusal(model, "E233", message)
    assert "cannot be merged" in str(error)


@pytest.mark.parametrize(
    ("name", "dtype", "message"),
    [
        ("q_proj.qweight", np.int32, r"quantised \(GPTQ or AWQ, tensor 'q_proj\.qweight' of I32\)"),
        ("q_proj.weight.absmax", np.float32, r"bitsandbytes, 4 bits"),
        ("q_proj.weight.quant_state.bitsandbytes__nf4", np.uint8, r"bitsandbytes, 4 bits"),
        ("q_proj.SCB", np.float32, r"bitsandbytes, 8 bits"),
        ("q_proj.weight_packed", np.int32, r"compressed-tensors"),
        ("experts.gate_up_proj_blocks", np.uint8, r"MXFP4"),
    ],
)
def test_a_quantised_model_by_its_tensors(name: str, dtype: type, message: str, model: Path) -> None:
    save_file(arrays() | {name: np.zeros(4, dtype)}, model / "model.safetensors")
    refusal(model, "E233", message)


def test_eight_bit_floats_are_quantised_also_in_a_file_alone(tmp_path: Path) -> None:
    header = json.dumps({"w": {"dtype": "F8_E4M3", "shape": [4], "data_offsets": [0, 4]}}).encode()
    path = tmp_path / "x.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    with pytest.raises(MergecoreError, match=r"quantised \(fp8, tensor 'w' of F8_E4M3\)") as caught:
        open_file(path, ModelReference("x.safetensors"))
    assert caught.value.code == "E233"


def test_plain_integers_are_no_quantisation(model: Path) -> None:
    write(model, "config.json", CONFIG | {"quantization_config": None})
    save_file(arrays() | {"position_ids": np.arange(8)}, model / "model.safetensors")
    assert opened(model).tensors["position_ids"].dtype == "I64"


def test_all_that_is_wrong_with_a_model_is_told_at_once(model: Path) -> None:
    (model / "config.json").unlink()
    (model / "model.safetensors").write_bytes(b"GGUF" + bytes(60))
    os.mkfifo(model / "vocab.txt")
    error = refusal(
        model, "E220", r"config\.json: missing; m/bad/model\.safetensors: not a .*; m/bad/vocab\.txt"
    )
    assert isinstance(error, Problems)
    assert [one.code for one in error.errors] == ["E220", "E202", "E309"]


def test_names_from_files_are_shown_without_control_characters(sharded: Path) -> None:
    escape = {"\x1b[2J": ONE}
    edit_index(sharded, lambda index: index["weight_map"].update(escape))
    assert r"'\x1b[2J'" in str(refusal(sharded, "E213", "in none of its files"))


def test_the_remote_map_may_be_empty(model: Path) -> None:
    nothing: Mapping[str, RemoteFile] = {}
    assert len(open_folder(model, ModelReference("m/bad"), remote=nothing).tensors) == 5
