"""Models of the hub, from a small hub on this machine."""

from __future__ import annotations

import json
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
from hub_models import COMMIT, ONLINE, cached, open_reference, refusal, repository
from huggingface_hub import close_session, constants
from safetensors.numpy import save

from mergecore.cli.app import run
from mergecore.errors import MergecoreError
from mergecore.types import (
    Event,
    Fetching,
    Json,
    Stored,
)

pytestmark = pytest.mark.usefixtures("cache")


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
