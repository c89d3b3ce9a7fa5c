"""Opening a model folder: what is found in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from model_folders import CONFIG, INDEX, ONE, TWO, arrays, edit_index, opened, write
from safetensors.numpy import load_file, save_file

from mergecore.models.folder import is_side_file, open_file, open_folder
from mergecore.models.input_folder import RemoteFile
from mergecore.types import ModelReference, Stored

# ---- sound models ------------------------------------------------------------------------------------------


def test_a_model_in_one_file_is_opened(model: Path) -> None:
    checkpoint = opened(model)
    assert checkpoint.name == "m/bad"
    assert checkpoint.folder == model
    assert checkpoint.config == CONFIG
    assert set(checkpoint.tensors) == set(arrays())
    assert [file.path for file in checkpoint.weight_files] == [model / "model.safetensors"]
    assert checkpoint.fetch is None
    assert checkpoint.revision is None


def test_shards_are_one_model_in_the_order_of_the_files(sharded: Path) -> None:
    checkpoint = opened(sharded)
    assert [file.path.name for file in checkpoint.weight_files] == [ONE, TWO]
    stored = load_file(sharded / ONE) | load_file(sharded / TWO)
    assert set(checkpoint.tensors) == set(stored)
    for name, tensor in checkpoint.tensors.items():
        data = tensor.data
        assert isinstance(data, Stored)
        with data.file.open("rb") as file:
            file.seek(data.offset)
            assert file.read(stored[name].nbytes) == stored[name].tobytes()


def test_a_relative_path_is_opened_from_the_working_directory(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(model.parent.parent)
    assert opened(Path("m/bad")).folder == model


def test_a_total_size_that_counts_bools_as_bits_is_right(sharded: Path) -> None:
    mask = {"mask": np.ones(16, np.bool_), **load_file(sharded / TWO)}
    save_file(mask, sharded / TWO)

    def add_mask(index: dict[str, Any]) -> None:
        index["weight_map"]["mask"] = TWO
        index["metadata"]["total_size"] = 466.0

    edit_index(sharded, add_mask)
    assert len(opened(sharded).tensors) == 6


@pytest.mark.parametrize("metadata", [None, {}])
def test_an_index_need_not_state_a_size(metadata: object, sharded: Path) -> None:
    edit_index(sharded, lambda index: index.update(metadata=metadata))
    assert len(opened(sharded).tensors) == 5


@pytest.mark.parametrize("name", ["diffusion_pytorch_model.safetensors", "consolidated.safetensors"])
def test_the_only_safetensors_file_is_taken_whatever_its_name(name: str, model: Path) -> None:
    (model / "model.safetensors").rename(model / name)
    assert opened(model).weight_files[0].path.name == name


def test_a_complete_numbered_set_needs_no_index(sharded: Path) -> None:
    (sharded / INDEX).unlink()
    assert len(opened(sharded).weight_files) == 2


def test_an_index_with_another_name_is_used_when_it_is_the_only_one(sharded: Path) -> None:
    (sharded / INDEX).rename(sharded / "transformer.safetensors.index.json")
    assert len(opened(sharded).tensors) == 5


def test_pickles_and_other_variants_beside_safetensors_are_ignored(model: Path) -> None:
    for name in ("pytorch_model.bin", "model.fp16.safetensors", "consolidated.safetensors"):
        write(model, name, "not what it says")
    assert len(opened(model).tensors) == 5


def test_side_files_are_listed_and_weights_cards_and_training_state_are_not(model: Path) -> None:
    carried = [
        "config.json",
        "generation_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "added_tokens.json",
        "vocab.json",
        "merges.txt",
        "vocab.txt",
        "spiece.model",
        "sentencepiece.bpe.model",
        "tokenizer.model",
        "tekken.json",
        "qwen.tiktoken",
        "source.spm",
        "chat_template.jinja",
        "chat_template.json",
        "additional_chat_templates/tool.jinja",
        "preprocessor_config.json",
        "processor_config.json",
        "video_preprocessor_config.json",
        "audio_tokenizer_config.json",
        "modeling_own.py",
        "custom_generate/generate.py",
        "custom_generate/lib/steps.py",
        "modules.json",
        "config_sentence_transformers.json",
        "sentence_bert_config.json",
        "1_Pooling/config.json",
        "LICENSE",
        "LICENSE.txt",
        "Llama-3 license agreement.md",
        "NOTICE",
        "USE_POLICY.md",
        "MODEL_LICENSE",
    ]
    left = [
        "README.md",
        ".gitattributes",
        ".cache/x.json",
        "adapter_config.json",
        "optimizer.pt",
        "trainer_state.json",
        "training_args.bin",
        "model.onnx",
        "q4.gguf",
        "onnx/config.json",
        "mergecore-manifest.json",
        "tokenizer.json.bak",
        "license.bin",
        "notice/a.txt",
    ]
    for name in [*carried, *left]:
        if name != "config.json":
            write(model, name, "{}")
    checkpoint = opened(model)
    assert sorted(checkpoint.side_files) == sorted(carried)
    assert all(path == model / name for name, path in checkpoint.side_files.items())
    assert not is_side_file("../tokenizer.json")


def test_code_named_in_the_config_is_carried_and_not_run(model: Path) -> None:
    write(model, "config.json", {**CONFIG, "auto_map": {"AutoConfig": "evil.Config"}})
    write(model, "evil.py", "raise SystemExit('was run')")
    assert "evil.py" in opened(model).side_files


def test_files_of_another_machine_are_read_in_part(sharded: Path) -> None:
    contents = {name: (sharded / name).read_bytes() for name in (ONE, TWO)}
    asked = []

    def remote(name: str) -> RemoteFile:
        def read(offset: int, count: int) -> bytes:
            asked.append(name)
            return contents[name][offset : offset + count]

        return RemoteFile(len(contents.get(name, b"")), read)

    expected = {name: (one.shape, one.data) for name, one in opened(sharded).tensors.items()}
    for name in contents:
        (sharded / name).unlink()
    files = {name: remote(name) for name in (*contents, "other.safetensors", "pytorch_model.bin")}
    checkpoint = open_folder(sharded, ModelReference("m/bad"), "c0ffee", remote=files)
    assert {name: (one.shape, one.data) for name, one in checkpoint.tensors.items()} == expected
    assert {file.stamp for file in checkpoint.weight_files} == {(0, 0, 0, 0)}
    assert checkpoint.revision == "c0ffee"
    assert sorted(asked) == [ONE, TWO]


def test_one_file_is_opened_without_a_config(model: Path) -> None:
    checkpoint = open_file(model / "model.safetensors", ModelReference("m/bad/model.safetensors"))
    assert set(checkpoint.tensors) == set(arrays())
    assert checkpoint.config == {}
    assert checkpoint.side_files == {}
