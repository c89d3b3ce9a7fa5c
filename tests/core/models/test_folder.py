"""Opening a model folder: what is found in it, and every reason to refuse it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from mergecore.errors import MergecoreError, Problems
from mergecore.models.folder import is_side_file, open_file, open_folder
from mergecore.models.input_folder import RemoteFile
from mergecore.types import Checkpoint, ModelReference, Stored

Arrays = dict[str, np.ndarray[Any, Any]]
ONE, TWO = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
INDEX = "model.safetensors.index.json"
CONFIG: dict[str, Any] = {"model_type": "llama", "num_hidden_layers": 2, "vocab_size": 6, "hidden_size": 4}


def arrays() -> Arrays:
    shapes = {"model.embed_tokens.weight": (6, 4), "model.norm.weight": (4,), "lm_head.weight": (6, 4)}
    shapes |= {f"model.layers.{i}.mlp.up_proj.weight": (8, 4) for i in range(2)}
    return {name: np.full(shape, i, np.float32) for i, (name, shape) in enumerate(shapes.items())}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A sound model in one file, at `m/bad`."""
    folder = tmp_path / "m" / "bad"
    folder.mkdir(parents=True)
    save_file(arrays(), folder / "model.safetensors")
    write(folder, "config.json", CONFIG)
    return folder


@pytest.fixture
def sharded(model: Path) -> Path:
    """The same model in two files with an index."""
    (model / "model.safetensors").unlink()
    names = sorted(arrays())
    for file, part in ((ONE, names[:2]), (TWO, names[2:])):
        save_file({name: arrays()[name] for name in part}, model / file)
    files = {name: ONE if name in names[:2] else TWO for name in names}
    write(model, INDEX, {"metadata": {"total_size": 464}, "weight_map": files})
    return model


def write(folder: Path, name: str, content: object) -> None:
    path = folder / name
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")


def edit_index(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    index = json.loads((folder / INDEX).read_text())
    change(index)
    write(folder, INDEX, index)


def opened(folder: Path) -> Checkpoint:
    return open_folder(folder, ModelReference("m/bad"))


def refusal(folder: Path, code: str, text: str) -> MergecoreError:
    with pytest.raises(MergecoreError, match=text) as caught:
        opened(folder)
    assert caught.value.code == code
    return caught.value


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


# ---- the set of weights ------------------------------------------------------------------------------------


def test_no_weights(model: Path) -> None:
    (model / "model.safetensors").unlink()
    refusal(
        model, "E201", r"^m/bad: no weights found, expected model\.safetensors or model\.safetensors\.index"
    )


def test_weights_in_another_format_are_named(model: Path) -> None:
    (model / "model.safetensors").rename(model / "tiny.Q4_0.gguf")
    refusal(model, "E201", r"m/bad: no weights found.*; tiny\.Q4_0\.gguf cannot be used")


def test_pickles_alone_are_refused_with_the_command_to_convert_them(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (model / "model.safetensors").unlink()
    write(model, "training_args.bin", "")
    write(model, "pytorch_model.bin", "")
    error = refusal(model, "E303", r"the weights are pickles \(pytorch_model\.bin\).*run code")
    assert error.exit_code == 4
    assert "glob.glob('m/bad/pytorch_model.bin')" in str(error)
    assert "Hint: convert them to safetensors (python" in str(error)
    assert str(error).endswith("; a model with a config is read from safetensors only")
    write(model, "pytorch_model-2.bin", "")
    assert "torch.load" not in str(refusal(model, "E303", "pytorch_model-2.bin"))


def test_two_sets_of_weights_are_ambiguous(sharded: Path) -> None:
    save_file(arrays(), sharded / "model.safetensors")
    refusal(
        sharded,
        "E214",
        r"both model\.safetensors and model\.safetensors\.index\.json are there.*remove or rename what",
    )
    (sharded / INDEX).unlink()
    refusal(sharded, "E214", rf"both model\.safetensors and {ONE} are there")
    (sharded / "model.safetensors").rename(sharded / "other.safetensors")
    refusal(sharded, "E214", rf"both {ONE} and other\.safetensors are there")


def test_an_index_beside_its_own_single_file_is_ambiguous_whatever_the_name(sharded: Path) -> None:
    (sharded / INDEX).rename(sharded / "unet.safetensors.index.json")
    save_file(arrays(), sharded / "unet.safetensors")
    refusal(sharded, "E214", r"both unet\.safetensors and unet\.safetensors\.index\.json")
    (sharded / "unet.safetensors").unlink()
    write(sharded, "text.safetensors.index.json", "{}")
    refusal(sharded, "E214", r"both unet\.safetensors\.index\.json and text\.safetensors\.index\.json")


def test_a_hole_in_a_numbered_set_is_found(sharded: Path) -> None:
    (sharded / INDEX).unlink()
    (sharded / ONE).unlink()
    refusal(sharded, "E212", rf"m/bad/{ONE}: missing; 1 of 2 files of this name")


def test_an_adapter_is_no_model(tmp_path: Path) -> None:
    write(tmp_path, "adapter_config.json", {"base_model_name_or_path": "big/base"})
    write(tmp_path, "adapter_model.safetensors", "")
    with pytest.raises(
        MergecoreError,
        match=r"m/l: a PEFT adapter of 'big/base', not a model\. Hint: write 'big/base\+m/l', or",
    ) as caught:
        open_folder(tmp_path, ModelReference("m/l"))
    assert caught.value.code == "E201"
    write(tmp_path, "adapter_config.json", {})
    with pytest.raises(MergecoreError, match=r"a PEFT adapter, not a model\. Hint: write 'BASE\+m/l'"):
        open_folder(tmp_path, ModelReference("m/l"))


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    refusal(tmp_path / "m", "E701", r"'m/bad': no such directory")
    write(tmp_path, "file", "")
    refusal(tmp_path / "file", "E701", r"'m/bad': not a directory")


# ---- the index ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", r"index\.json: not valid JSON"),
        ("[]", r"index\.json: must be a JSON object"),
        ("{}", r"no 'weight_map'"),
        ('{"weight_map": []}', r"'weight_map' must be an object"),
        ('{"weight_map": {}}', r"'weight_map' is empty"),
        ('{"weight_map": {"a": 1}}', r"the file of 'a' must be a string"),
        ('{"weight_map": {"a": "x.safetensors", "a": "y"}}', r"'a' occurs twice"),
        ('{"weight_map": {"a": "x"}, "metadata": 3}', r"'metadata' must be an object"),
    ],
)
def test_a_malformed_index(text: str, message: str, sharded: Path) -> None:
    write(sharded, INDEX, text)
    refusal(sharded, "E210", message)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "../other/x.safetensors",
            r"'\.\./other/x\.safetensors' is outside the model directory; .*: no flag allows this; correct the index",
        ),
        ("a/../../x.safetensors", r"is outside the model directory"),
        ("/etc/passwd", r"'/etc/passwd' is outside the model directory"),
        ("sub/x.safetensors", r"'sub/x\.safetensors' is in a sub-directory"),
        ("..\\x.safetensors", r"file name '.*' holds '\\\\'"),
        ("x\0.safetensors", r"file name 'x\\x00\.safetensors' holds a control character"),
        (".hidden.safetensors", r"is not a plain file name"),
        ("C:x.safetensors", r"is not a plain file name"),
        ("x" * 256, r"is not a plain file name"),
        ("", r"'' is not a plain file name"),
    ],
)
def test_an_index_cannot_lead_out_of_the_folder(name: str, message: str, sharded: Path) -> None:
    edit_index(sharded, lambda index: index["weight_map"].update({"lm_head.weight": name}))
    assert refusal(sharded, "E301", message).exit_code == 4


def test_missing_shards_are_counted(sharded: Path) -> None:
    (sharded / TWO).unlink()
    refusal(sharded, "E212", rf"m/bad: {TWO} missing: 1 of 2 files in {INDEX} are not there")


def test_tensors_that_the_index_lacks(sharded: Path) -> None:
    edit_index(sharded, lambda index: index["weight_map"].pop("lm_head.weight"))
    refusal(
        sharded, "E213", rf"tensor 'lm_head\.weight' in {ONE} not in the index.*: the index belongs to other"
    )


def test_tensors_that_only_the_index_has(sharded: Path) -> None:
    ghosts = {f"ghost{i}": ONE for i in range(5)}
    edit_index(sharded, lambda index: index["weight_map"].update(ghosts))
    refusal(sharded, "E213", r"tensor 'ghost0', .*'ghost2' and 2 more in the index but in none of its files")


def test_tensors_in_another_shard_than_the_index_says(sharded: Path) -> None:
    edit_index(sharded, lambda index: index["weight_map"].update({"lm_head.weight": TWO}))
    refusal(sharded, "E213", rf"tensor 'lm_head\.weight' is in {ONE}, not in {TWO} as the index says")


def test_a_tensor_in_two_shards(sharded: Path) -> None:
    save_file({"lm_head.weight": arrays()["lm_head.weight"], **load_file(sharded / TWO)}, sharded / TWO)
    refusal(sharded, "E213", rf"tensor 'lm_head\.weight' is in {TWO}, not in {ONE} as the index says")
    (sharded / INDEX).unlink()
    refusal(sharded, "E213", rf"tensor 'lm_head\.weight' is in both {ONE} and {TWO}")


def test_a_wrong_total_size_is_told_and_harms_nothing(sharded: Path) -> None:
    edit_index(sharded, lambda index: index["metadata"].update(total_size=1))
    assert opened(sharded).notes == (
        f"m/bad/{INDEX}: total_size 1 in the index, actual 464 bytes; loaders ignore it, and so does the merge",
    )
    edit_index(sharded, lambda index: index["metadata"].update(total_size="a lot"))
    assert "total_size a lot in the index" in opened(sharded).notes[0]
    edit_index(sharded, lambda index: index["metadata"].update(total_size=464))
    assert opened(sharded).notes == ()


def test_the_headers_of_all_shards_are_checked(sharded: Path) -> None:
    for name in (ONE, TWO):
        os.truncate(sharded / name, (sharded / name).stat().st_size - 8)
    error = refusal(sharded, "E206", r"truncated: expected \d+ bytes, found \d+ \(8 missing\)")
    assert isinstance(error, Problems)
    assert [str(one).split(":")[0] for one in error.errors] == [f"m/bad/{ONE}", f"m/bad/{TWO}"]


# ---- links and special files -------------------------------------------------------------------------------


def test_links_to_files_outside_are_refused(model: Path) -> None:
    for name in ("model.safetensors", "config.json"):
        (model / name).rename(model.parent / name)
        (model / name).symlink_to(model.parent / name)
    write(model.parent, "secret.json", "{}")
    (model / "tokenizer.json").symlink_to("../secret.json")
    error = refusal(
        model,
        "E302",
        r"m/bad/config\.json: symbolic link that leads outside the model directory.*put the file itself there",
    )
    assert isinstance(error, Problems)
    assert [one.place for one in error.errors] == [
        "m/bad/config.json",
        "m/bad/model.safetensors",
        "m/bad/tokenizer.json",
    ]
    assert {one.exit_code for one in error.errors} == {4}


def test_links_within_the_folder_and_to_an_allowed_one_are_followed(model: Path) -> None:
    (model / "model.safetensors").rename(model / "weights.data")
    (model / "model.safetensors").symlink_to("weights.data")
    elsewhere = model.parent / "store"
    elsewhere.mkdir()
    (model / "config.json").rename(elsewhere / "abc")
    (model / "config.json").symlink_to("../store/abc")
    checkpoint = open_folder(model, ModelReference("m/bad"), allowed_root=elsewhere)
    assert len(checkpoint.tensors) == 5
    refusal(model, "E302", r"config\.json")


def test_the_folder_itself_may_be_a_link(model: Path) -> None:
    link = model.parent / "link"
    link.symlink_to("bad")
    assert opened(link).folder == link


@pytest.mark.parametrize("store", ["models--o--n/blobs", "blobs/ab"])
def test_links_of_a_hub_cache_lead_to_its_blobs(store: str, model: Path, tmp_path: Path) -> None:
    snapshot = tmp_path / "models--o--n" / "snapshots" / "c0ffee"
    blobs = tmp_path / store
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for i, path in enumerate(sorted(model.iterdir())):
        path.rename(blobs / str(i))
        (snapshot / path.name).symlink_to(os.path.relpath(blobs / str(i), snapshot))
    checkpoint = opened(snapshot)
    assert checkpoint.weight_files[0].path == snapshot / "model.safetensors"
    (snapshot / "tokenizer.json").symlink_to("../../refs")
    write(tmp_path, "models--o--n/refs", "{}")
    refusal(snapshot, "E302", r"tokenizer\.json")


def test_loops_pipes_and_folders_in_place_of_weights(model: Path) -> None:
    weights = model / "model.safetensors"
    weights.unlink()
    weights.symlink_to("model.safetensors")
    refusal(model, "E236", r"model\.safetensors: cannot be read: too many levels of symbolic links")
    weights.unlink()
    weights.symlink_to("gone")
    refusal(model, "E236", r"model\.safetensors: cannot be read: no such file or directory")
    weights.unlink()
    os.mkfifo(weights)
    refusal(model, "E309", r"not a regular file \(fifo\)")
    weights.unlink()
    weights.mkdir()
    refusal(model, "E309", r"not a regular file \(directory\)")


def test_special_files_among_the_side_files_are_refused(model: Path) -> None:
    os.mkfifo(model / "tokenizer.json")
    refusal(model, "E309", r"m/bad/tokenizer\.json: not a regular file \(fifo\)")


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
