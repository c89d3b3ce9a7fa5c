"""Models of the hub: how they are named, and found in a cache made by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
from hub_models import COMMIT, ONLINE, cached, open_reference, refusal, repository
from huggingface_hub import constants

from mergecore.types import (
    AdapterReference,
    ModelReference,
)
from mergecore_plugins.sources.hub import accepts, mergecore_model_sources, open_hub

pytestmark = pytest.mark.usefixtures("cache")


# ---- references --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["o/n", "Qwen/Qwen2.5-0.5B", "hf:o/n", "hf:gpt2", "hf:what is this"])
def test_hub_ids_are_accepted(path: str) -> None:
    assert accepts(ModelReference(path), ONLINE)


@pytest.mark.parametrize(
    "path", ["n", "./o/n", "/o/n", "o/n/m", "o//n", "o--x/n", "o/..", "-o/n", "o/n.git", "o/\u0430"]
)
def test_what_no_hub_id_can_be_is_not_accepted(path: str) -> None:
    assert not accepts(ModelReference(path), ONLINE)


def test_a_folder_of_that_name_comes_first() -> None:
    Path("o/n").mkdir(parents=True)
    assert not accepts(ModelReference("o/n"), ONLINE)
    assert accepts(ModelReference("hf:o/n"), ONLINE)


def test_a_model_with_an_adapter_is_left_to_others() -> None:
    assert not accepts(ModelReference("o/n", adapters=(AdapterReference("m/l"),)), ONLINE)


def test_a_cache_that_lacks_the_config_says_what_to_download(cache: Path) -> None:
    snapshot = cached(cache, repository())
    for file in snapshot.iterdir():
        if file.is_symlink() and ".safetensors" not in file.name:
            file.unlink()
    refusal(
        "E220", r"^'o/n': not complete in the hub cache \(offline\): config\.json is missing\. Hint:", "o/n"
    )


@pytest.mark.parametrize(
    ("path", "revision"),
    [("hf:../../etc", None), ("hf:", None), ("hf:a/b/c", None), ("o/n", "../../x"), ("o/n", "")],
)
def test_malformed_ids_and_revisions_never_reach_the_cache(path: str, revision: str | None) -> None:
    if revision == "":
        refusal("E701", "no such directory", path, revision)
    else:
        refusal(
            "E112",
            r"is not a valid hub id.*write 'hf:owner/name' or 'hf:owner/name@revision'",
            path,
            revision,
        )


def test_the_hook_yields_the_source_after_local_folders() -> None:
    (source,) = mergecore_model_sources()
    assert (source.name, source.rank, source.open) == ("hub", 60, open_hub)


# ---- offline -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["o/n", "hf:o/n"])
def test_a_cached_model_is_opened_offline_at_its_commit(path: str, cache: Path) -> None:
    snapshot = cached(cache, repository())
    checkpoint = open_reference(path)
    assert checkpoint.name == path
    assert checkpoint.revision == COMMIT
    assert checkpoint.folder == snapshot
    assert checkpoint.fetch is None
    assert set(checkpoint.tensors) == {"layers.0.w", "layers.1.w"}
    assert set(checkpoint.side_files) == {
        "config.json",
        "tokenizer.json",
        "chat_template.jinja",
        "modeling_tiny.py",
    }


@pytest.mark.parametrize("revision", [COMMIT, "v1.0", "refs/pr/3"])
def test_commits_tags_and_pull_requests_are_found(revision: str, cache: Path) -> None:
    cached(cache, repository(), ref="refs/pr/3" if revision == COMMIT else revision)
    assert open_reference("o/n", revision).revision == COMMIT


@pytest.mark.parametrize("variable", ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"])
def test_the_environment_can_ask_for_offline(
    variable: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv(variable, "1")
    cached(cache, repository())
    assert open_reference("o/n", options=ONLINE).revision == COMMIT


def test_a_name_that_means_nothing_offline() -> None:
    refusal(
        "E701",
        r"'m/nope': no such directory, and no such model in the hub cache \(offline\).*: correct the path, or",
        "m/nope",
    )


def test_a_misspelt_folder_is_corrected_and_not_downloaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "talk" / "animals").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    refusal(
        "E701",
        r"^'talk/animls': no such directory, and no such model in the hub cache \(offline\); "
        r"did you mean 'talk/animals'\? Hint: correct the path$",
        "talk/animls",
    )


def test_a_revision_that_is_not_cached(cache: Path) -> None:
    cached(cache, repository())
    refusal("E701", r"'o/n': .*no such model at revision 'v2' in the hub cache", "o/n", "v2")


def test_a_cache_that_lacks_a_shard_says_what_to_download(cache: Path) -> None:
    snapshot = cached(cache, repository())
    (snapshot / "model-00002-of-00002.safetensors").unlink()
    text = (
        r"'o/n': not complete in the hub cache \(offline\): model-00002.*1 of 2.*: download it while online"
    )
    refusal("E212", text, "o/n")


def test_a_cache_that_holds_a_bad_model_says_so(cache: Path) -> None:
    cached(cache, {**repository(), "config.json": b'{"vocab_size": 9, "n_layer": 1}'})
    refusal("E221", r"^o/n/config\.json: n_layer 1, but the weights have 2 layers", "o/n")


def test_links_that_leave_the_cache_are_refused(cache: Path, tmp_path: Path) -> None:
    snapshot = cached(cache, repository())
    (tmp_path / "secret.json").write_text("{}")
    (snapshot / "vocab.json").symlink_to(tmp_path / "secret.json")
    refusal("E302", r"o/n/vocab\.json: symbolic link that leads outside", "o/n")


def test_a_damaged_reference_is_no_model(cache: Path) -> None:
    cached(cache, repository())
    for text in ("../../../x", "", "\xff"):
        (cache / "models--o--n" / "refs" / "main").write_text(text, encoding="latin-1")
        refusal("E701", "no such model in the hub cache", "o/n")
