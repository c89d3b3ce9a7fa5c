"""Sets of weights and their indexes, and every reason to refuse one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from model_folders import INDEX, ONE, TWO, arrays, edit_index, opened, refusal, write
from safetensors.numpy import load_file, save_file

from mergecore.errors import MergecoreError, Problems
from mergecore.models.folder import open_folder
from mergecore.types import ModelReference

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
        ('{"weight_map": {"a": 1}}', r"'weight_map': the file of 'a' must be a string"),
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
