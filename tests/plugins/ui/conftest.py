"""The server of the page, asked in this process: no port, no browser."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from fixture_types import WriteModel
from starlette.testclient import TestClient
from ui_server import CONFIG, HERE, KEY, PORT

from mergecore_plugins.ui.server.app import make_app


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write_model: WriteModel) -> Path:
    """A folder with two models and a config, which is the working folder."""
    found = tmp_path / "work"
    for name, value in (("a", 1.0), ("b", 3.0)):
        write_model(found / name, value)
    (found / "mean.yml").write_text(CONFIG, encoding="utf8")
    monkeypatch.chdir(found)
    return found


Serve = Callable[[], TestClient]


@pytest.fixture
def serve(folder: Path) -> Iterator[Serve]:
    """Starts a server of the folder, which has its first address opened already."""
    with ExitStack() as stack:

        def start() -> TestClient:
            app = make_app(folder, KEY, PORT)
            client = TestClient(
                app, base_url=HERE, client=("127.0.0.1", 50000), headers={"origin": HERE}, cookies={}
            )
            stack.enter_context(client)
            assert client.get("/", params={"token": KEY}).status_code == 200
            return client

        yield start


@pytest.fixture
def page(serve: Serve) -> TestClient:
    """The server of the folder."""
    return serve()
