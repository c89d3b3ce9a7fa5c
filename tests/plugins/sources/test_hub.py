"""Models of the hub: from a cache made by hand, and from a small hub on this machine."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from huggingface_hub import close_session, constants
from safetensors.numpy import save

from mergecore.cli.app import run
from mergecore.errors import MergecoreError
from mergecore.types import (
    AdapterReference,
    Checkpoint,
    Event,
    Fetching,
    Json,
    ModelReference,
    OpenOptions,
    Stored,
)
from mergecore_plugins.sources.hub import accepts, mergecore_model_sources, open_hub

COMMIT = "0123456789abcdef0123456789abcdef01234567"
ONLINE, OFFLINE = OpenOptions(), OpenOptions(offline=True)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache of the hub, empty; the working directory is empty, too."""
    cache = tmp_path / "hub"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return cache


def repository(parts: int = 2) -> dict[str, bytes]:
    """The files of a model with two weight files and with others that a merge does not need."""
    files = {
        "config.json": json.dumps({"model_type": "tiny", "vocab_size": 4}).encode(),
        "tokenizer.json": b"{}",
        "chat_template.jinja": b"hello",
        "modeling_tiny.py": b"raise SystemExit",
        "README.md": b"---\nlicense: mit\n---\n# tiny",
        "pytorch_model.bin": b"PK",
        "onnx/model.onnx": b"onnx",
    }
    names = [f"model-{i + 1:05}-of-{parts:05}.safetensors" for i in range(parts)]
    for i, name in enumerate(names):
        files[name] = save({f"layers.{i}.w": np.full((4, 50_000), i, np.float32)})
    where = {f"layers.{i}.w": name for i, name in enumerate(names)}
    files["model.safetensors.index.json"] = json.dumps({"weight_map": where}).encode()
    return files


def cached(cache: Path, files: dict[str, bytes], repo: str = "o/n", ref: str = "main") -> Path:
    """The snapshot folder of a model put into the cache as huggingface_hub does."""
    home = cache / f"models--{repo.replace('/', '--')}"
    (home / "refs" / ref).parent.mkdir(parents=True, exist_ok=True)
    (home / "refs" / ref).write_text(COMMIT)
    (home / "blobs").mkdir(exist_ok=True)
    snapshot = home / "snapshots" / COMMIT
    for name, content in files.items():
        blob = home / "blobs" / sha256(content).hexdigest()
        blob.write_bytes(content)
        (snapshot / name).parent.mkdir(parents=True, exist_ok=True)
        (snapshot / name).symlink_to(os.path.relpath(blob, (snapshot / name).parent))
    return snapshot


def open_reference(path: str, revision: str | None = None, options: OpenOptions = OFFLINE) -> Checkpoint:
    return open_hub(ModelReference(path, revision), options)


def refusal(
    code: str, text: str, path: str, revision: str | None = None, options: OpenOptions = OFFLINE
) -> None:
    with pytest.raises(MergecoreError, match=text) as caught:
        open_reference(path, revision, options)
    assert caught.value.code == code


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


# ---- online ------------------------------------------------------------------------------------------------


@dataclass
class TinyHub:
    """A server that answers as the hub does, and remembers what it was asked for."""

    files: dict[str, bytes]
    address: str = ""
    asked: list[tuple[str, str, str]] = field(default_factory=list)
    """Method, file and range."""
    gated: bool = False
    ignores_ranges: bool = False

    def listing(self) -> dict[str, Any]:
        siblings = [{"rfilename": name, "size": len(content)} for name, content in self.files.items()]
        return {"id": "o/n", "sha": COMMIT, "siblings": siblings, "tags": [], "private": False}

    def bytes_of(self, name: str) -> int:
        """How much of a file was sent."""
        spans = [span for method, file, span in self.asked if method == "GET" and file == name]
        whole = len(self.files[name])
        return sum(_span(span, whole)[1] - _span(span, whole)[0] for span in spans)


def _span(text: str, size: int) -> tuple[int, int]:
    """First byte and end of a range such as `bytes=0-99`."""
    if not text:
        return 0, size
    first, _, last = text.removeprefix("bytes=").partition("-")
    return int(first), min(int(last) + 1 if last else size, size)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[TinyHub]:
    state = TinyHub(repository())
    server = _Server(state)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    state.address = f"http://127.0.0.1:{server.server_port}"
    template = f"{state.address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr(constants, "ENDPOINT", state.address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_PROGRESS_BARS", True)
    for variable in (
        "HF_HUB_OFFLINE",
        "TRANSFORMERS_OFFLINE",
        "http_proxy",
        "HTTP_PROXY",
        "all_proxy",
        "ALL_PROXY",
    ):
        monkeypatch.delenv(variable, raising=False)
    close_session()
    yield state
    close_session()
    server.shutdown()
    server.server_close()
    thread.join()


class _Server(ThreadingHTTPServer):
    def __init__(self, hub: TinyHub) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.hub = hub


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path.startswith(_FILES):
            self._file(path.removeprefix(_FILES))
        elif path == "/api/models/o/n/revision/v9":
            self._send(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
        elif path.startswith("/api/models/o/n"):
            self._send(200, json.dumps(self.server.hub.listing()).encode())
        else:
            self._send(404, b"{}", {"X-Error-Code": "RepoNotFound"})

    def do_HEAD(self) -> None:
        self.do_GET()

    def log_message(self, *_: object) -> None:
        pass

    def _file(self, name: str) -> None:
        hub, span = self.server.hub, self.headers.get("Range") or ""
        hub.asked.append((self.command, name, span))
        if hub.gated:
            self._send(403, b"{}", {"X-Error-Code": "GatedRepo"})
        elif name not in hub.files:
            self._send(404, b"{}", {"X-Error-Code": "EntryNotFound"})
        else:
            content = hub.files[name]
            span = "" if hub.ignores_ranges else span
            first, end = _span(span, len(content))
            self._send(206 if span else 200, content[first:end], {"ETag": f'"{sha256(content).hexdigest()}"'})

    def _send(self, status: int, body: bytes, headers: Mapping[str, str] = MappingProxyType({})) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), "X-Repo-Commit": COMMIT, **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)


_FILES = f"/o/n/resolve/{COMMIT}/"


def test_planning_downloads_small_files_and_headers_only(hub: TinyHub, cache: Path) -> None:
    checkpoint = open_reference("o/n", options=ONLINE)
    snapshot = cache / "models--o--n" / "snapshots" / COMMIT
    assert checkpoint.revision == COMMIT
    assert checkpoint.folder == snapshot
    data = checkpoint.tensors["layers.1.w"].data
    assert isinstance(data, Stored)
    assert data.file == snapshot / "model-00002-of-00002.safetensors"
    assert {file.stamp for file in checkpoint.weight_files} == {(0, 0, 0, 0)}
    assert set(checkpoint.side_files) == {
        "config.json",
        "tokenizer.json",
        "chat_template.jinja",
        "modeling_tiny.py",
    }
    assert (snapshot / "tokenizer.json").read_bytes() == b"{}"
    weights = [name for name in hub.files if name.endswith(".safetensors")]
    assert not any((snapshot / name).exists() for name in weights)
    assert all(0 < hub.bytes_of(name) <= 1 << 17 for name in weights)
    assert checkpoint.about == {"license": "mit"}
    assert {"pytorch_model.bin", "onnx/model.onnx"}.isdisjoint(name for _, name, _ in hub.asked)


def test_a_check_of_a_config_downloads_no_weights(
    hub: TinyHub, cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "c.yml"
    config.write_text("merge_method: passthrough\nmodels: [{model: o/n}]\n")
    assert run(["plan", "--check", str(config)]) == 0
    assert "tensors of 1 model can be merged" in capsys.readouterr().out
    weights = [name for name in hub.files if name.endswith(".safetensors")]
    assert not [name for name in weights for file in cache.rglob(name) if file.exists()]
    assert all(span.startswith("bytes=0-") for _, name, span in hub.asked if name in weights)
    assert not list(cache.rglob("*.safetensors"))


def test_weights_follow_when_they_are_fetched(hub: TinyHub) -> None:
    checkpoint = open_reference("o/n", "main", ONLINE)
    assert checkpoint.fetch is not None
    checkpoint.fetch(lambda *_: None)
    tensor = checkpoint.tensors["layers.1.w"]
    assert isinstance(tensor.data, Stored)
    with tensor.data.file.open("rb") as file:
        file.seek(tensor.data.offset)
        assert file.read(4) == np.float32(1).tobytes()
    again = open_reference("o/n", options=ONLINE)
    assert again.fetch is None
    assert again.tensors == checkpoint.tensors
    planned = [(file.size, file.header_sha256) for file in checkpoint.weight_files]
    assert [(file.size, file.header_sha256) for file in again.weight_files] == planned
    assert open_reference("o/n").tensors == checkpoint.tensors


def test_the_bytes_of_every_file_are_counted_while_it_comes(
    hub: TinyHub, cache: Path, tmp_path: Path
) -> None:
    checkpoint = open_reference("o/n", options=ONLINE)
    told: list[tuple[str, int, int]] = []
    assert checkpoint.fetch is not None
    checkpoint.fetch(lambda *words: told.append(words))
    sizes = {file.path.name: file.size for file in checkpoint.weight_files}
    assert {name: total for name, _, total in told} == sizes
    for name, size in sizes.items():
        counts = [done for one, done, _ in told if one == name]
        assert counts == sorted(counts)
        assert counts[-1] == size


def test_a_merge_says_how_far_its_downloads_are(hub: TinyHub, cache: Path, tmp_path: Path) -> None:
    import mergecore

    events: list[Event] = []
    config: dict[str, Json] = {"merge_method": "passthrough", "models": [{"model": "o/n"}]}
    mergecore.merge(config, tmp_path / "out", progress=events.append)
    fetching = [event for event in events if isinstance(event, Fetching)]
    last = {event.file: event for event in fetching}
    assert len(last) == 2
    assert all(event.done_bytes == event.total_bytes for event in last.values())
    assert (
        fetching[-1].all_done_bytes == fetching[-1].all_bytes == sum(one.total_bytes for one in last.values())
    )
    assert {event.model for event in fetching} == {"o/n"}


def test_a_server_that_ignores_ranges_is_understood(hub: TinyHub) -> None:
    hub.ignores_ranges = True
    assert set(open_reference("o/n", options=ONLINE).tensors) == {"layers.0.w", "layers.1.w"}


def test_weights_that_changed_since_planning_are_refused(hub: TinyHub) -> None:
    checkpoint = open_reference("o/n", options=ONLINE)
    hub.files["model-00001-of-00002.safetensors"] = save({"layers.0.w": np.zeros((4, 49_999), np.float32)})
    assert checkpoint.fetch is not None
    with pytest.raises(
        MergecoreError,
        match=r"was downloaded, but is not the file that was planned with\. Hint: remove it from the hub",
    ) as caught:
        checkpoint.fetch(lambda *_: None)
    assert caught.value.code == "E704"


def test_a_model_of_the_hub_with_pickles_only_is_refused_before_they_are_downloaded(hub: TinyHub) -> None:
    hub.files = {name: content for name, content in hub.files.items() if "safetensors" not in name}
    refusal("E303", r"^o/n: the weights are pickles \(pytorch_model\.bin\)", "o/n", options=ONLINE)
    assert "pytorch_model.bin" not in {name for _, name, _ in hub.asked}


def test_an_adapter_of_the_hub_is_no_model(hub: TinyHub) -> None:
    hub.files = {
        "adapter_config.json": b'{"base_model_name_or_path": "big/base"}',
        "adapter_model.safetensors": b"",
    }
    told = r"o/n: a PEFT adapter of 'big/base', not a model\. Hint: write 'big/base\+o/n'"
    refusal("E201", told, "o/n", options=ONLINE)


def test_an_unknown_model_and_an_unknown_revision(hub: TinyHub) -> None:
    refusal("E701", r"'o/gone': no such directory, and no such model on the hub", "o/gone", options=ONLINE)
    refusal("E701", r"'o/n': the model has no revision 'v9'", "o/n", "v9", ONLINE)


def test_a_gated_model_says_where_to_ask(hub: TinyHub) -> None:
    hub.gated = True
    text = (
        r"'o/n': the model is gated.*ask for access at https://huggingface\.co/o/n, then run: hf auth login"
    )
    refusal("E702", text, "o/n", options=ONLINE)


def test_a_hub_out_of_reach_is_replaced_by_the_cache(
    hub: TinyHub, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    text = (
        r"'o/n': no such directory, and the hub cannot be used \(\w+.*\)\. Hint: try again, or write the path"
    )
    refusal("E704", text, "o/n", options=ONLINE)
    cached(cache, repository())
    assert open_reference("o/n", options=ONLINE).revision == COMMIT


def test_a_download_that_breaks_off_is_told(hub: TinyHub, cache: Path) -> None:
    checkpoint = open_reference("o/n", options=ONLINE)
    shutil.rmtree(cache / "models--o--n" / "blobs")
    del hub.files["model-00002-of-00002.safetensors"]
    assert checkpoint.fetch is not None
    with pytest.raises(MergecoreError, match="the hub cannot be used") as caught:
        checkpoint.fetch(lambda *_: None)
    assert caught.value.code == "E704"
