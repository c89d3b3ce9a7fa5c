"""Links and special files in the folder of a model."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from model_folders import opened, refusal, write

from mergecore.errors import Problems
from mergecore.models.folder import open_folder
from mergecore.types import ModelReference

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
