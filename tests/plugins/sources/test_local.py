"""Local folders and files as models: what is taken for a path, and what happens to it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import constants
from safetensors.numpy import save_file

from mergecore.errors import MergecoreError
from mergecore.types import AdapterReference, ModelReference, OpenOptions
from mergecore_plugins.sources.local import accepts, mergecore_model_sources, open_local

OPTIONS = OpenOptions(offline=True)


@pytest.fixture(autouse=True)
def working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Holds the model `m/a`; the cache of the hub is empty."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    folder = tmp_path / "here"
    (folder / "m" / "a").mkdir(parents=True)
    save_file({"w": np.zeros((2, 3), np.float32)}, folder / "m" / "a" / "model.safetensors")
    (folder / "m" / "a" / "config.json").write_text(json.dumps({"model_type": "tiny"}))
    monkeypatch.chdir(folder)
    return folder


def refusal(reference: ModelReference, code: str, text: str) -> None:
    with pytest.raises(MergecoreError, match=text) as caught:
        open_local(reference, OPTIONS)
    assert caught.value.code == code


@pytest.mark.parametrize(
    "path", ["m/a", "./m/a", "../here/m/a", "m/a/", "m/a/model.safetensors", "a/b/c", "nope"]
)
def test_paths_are_accepted(path: str) -> None:
    assert accepts(ModelReference(path), OPTIONS)


@pytest.mark.parametrize("path", ["m/nope", "hf:m/a", "hf:gpt2"])
def test_what_may_be_a_hub_model_is_left_to_the_hub(path: str) -> None:
    assert not accepts(ModelReference(path), OPTIONS)


def test_a_model_with_an_adapter_is_left_to_others() -> None:
    assert not accepts(ModelReference("m/a", adapters=(AdapterReference("m/l"),)), OPTIONS)


@pytest.mark.parametrize("path", ["m/a", "./m/a", "m/a/"])
def test_a_folder_is_opened_under_the_name_in_the_config(path: str, working_directory: Path) -> None:
    checkpoint = open_local(ModelReference(path), OPTIONS)
    assert checkpoint.name == path
    assert checkpoint.folder == working_directory / "m" / "a"
    assert checkpoint.tensors["w"].shape == (2, 3)
    assert checkpoint.revision is None


def test_absolute_paths_and_the_home_folder_are_opened(
    working_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(working_directory))
    for path in (str(working_directory / "m" / "a"), "~/m/a"):
        assert accepts(ModelReference(path), OPTIONS)
        assert set(open_local(ModelReference(path), OPTIONS).tensors) == {"w"}


def test_a_safetensors_file_alone_is_opened() -> None:
    checkpoint = open_local(ModelReference("m/a/model.safetensors"), OPTIONS)
    assert set(checkpoint.tensors) == {"w"}
    assert checkpoint.config == {}


def test_messages_name_the_model_as_the_config_does(working_directory: Path) -> None:
    (working_directory / "m" / "a" / "config.json").write_text("[]")
    refusal(ModelReference("m/a"), "E220", r"^m/a/config\.json: must be a JSON object$")


@pytest.mark.parametrize("path", ["nope", "/no/where/at/all", "a/b/c", "~no-such-user/x", "x\0y", "y" * 5000])
def test_a_path_that_is_not_there(path: str) -> None:
    assert accepts(ModelReference(path), OPTIONS)
    refusal(
        ModelReference(path),
        "E701",
        r"'.*': no such directory\. Hint: write models of the hub as 'owner/name'",
    )


def test_a_word_before_a_colon_may_be_that_of_a_plugin_which_is_not_installed() -> None:
    text = r"'zoo:first': no such directory\. Hint: if 'zoo:' is what a plugin understands, install it; write models"
    refusal(ModelReference("zoo:first"), "E701", text)


def test_another_file_is_no_model(working_directory: Path) -> None:
    (working_directory / "notes.txt").write_text("")
    refusal(ModelReference("notes.txt"), "E201", r"'notes\.txt': expected a folder, or a file of tensors")


def test_a_path_has_no_revision() -> None:
    text = r"'m/a@v2': 'm/a' is a path here, and a path has no revision 'v2'\. Hint: write 'hf:m/a@v2'"
    refusal(ModelReference("m/a", "v2"), "E112", text)
    refusal(ModelReference("./m/a", "v2"), "E112", r"no revision 'v2'\. Hint: remove it")


def test_a_name_that_is_both_a_folder_and_a_cached_model_is_ambiguous(tmp_path: Path) -> None:
    (tmp_path / "hub" / "models--m--a" / "snapshots" / "c0ffee").mkdir(parents=True)
    (tmp_path / "hub" / "models--m--a" / "refs").mkdir()
    (tmp_path / "hub" / "models--m--a" / "refs" / "main").write_text("c0ffee")
    refusal(ModelReference("m/a"), "E112", r"'m/a' is ambiguous.*write '\./m/a' or 'hf:m/a'")
    assert open_local(ModelReference("./m/a"), OPTIONS).name == "./m/a"


def test_the_hook_yields_the_source() -> None:
    (source,) = mergecore_model_sources()
    assert (source.name, source.rank, source.open) == ("local", 50, open_local)


def test_a_file_that_is_not_there_is_a_file_and_near_names_are_shown() -> None:
    with pytest.raises(
        MergecoreError,
        match=r"'m/a/modell\.safetensors': no such file; did you mean 'm/a/model\.safetensors'\?",
    ):
        open_local(ModelReference("m/a/modell.safetensors"), OPTIONS)
