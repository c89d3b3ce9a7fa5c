"""`mergecore ui` itself: what it needs, where it listens, how it ends."""

from __future__ import annotations

import re
import signal
import socket
import sys
import time
from pathlib import Path

import httpx
import pytest
from fixture_types import Cli
from ui_server import served

LOOPBACK = {"127.0.0.1", "127.0.1.1", "::1"}


def test_without_its_packages_it_says_what_to_install(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "mergecore_plugins.ui.server.serving", raising=False)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    done = cli("ui", tmp_path)
    assert done.code == 7
    assert "error E601: the page needs uvicorn, which is not installed" in done.err
    assert "run `pip install 'mergecore[ui]'`" in done.err


def test_a_port_that_is_taken_is_refused_where_it_was_asked_for(cli: Cli, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = cli("ui", tmp_path, f"--port={port}", "--no-browser")
    assert done.code == 2
    assert f"port {port} cannot be used: Address already in use" in done.err
    assert "name another one, or leave --port out" in done.err


def test_a_folder_that_is_missing_is_refused(cli: Cli, tmp_path: Path) -> None:
    assert cli("ui", tmp_path / "nowhere").code == 2


@pytest.mark.slow
def test_it_serves_this_machine_alone_and_ends_with_ctrl_c(tmp_path: Path) -> None:
    with served(tmp_path) as (process, address):
        port = int(re.findall(r":(\d+)/", address)[0])
        with httpx.Client(follow_redirects=True) as client:
            assert "What do you want to merge?" in client.get(address).text
            assert client.get(f"http://127.0.0.1:{port}/").status_code == 200
        assert httpx.get(f"http://127.0.0.1:{port}/").status_code == 403
        for other in {str(one[4][0]) for one in socket.getaddrinfo(socket.gethostname(), port)} - LOOPBACK:
            with pytest.raises(OSError, match="refused"):
                socket.create_connection((other, port), timeout=2)
        begin = time.monotonic()
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20) == 0
        assert time.monotonic() - begin < 10


@pytest.mark.slow
def test_two_pages_do_not_work_in_one_folder(cli: Cli, tmp_path: Path) -> None:
    with served(tmp_path):
        done = cli("ui", tmp_path, "--no-browser", "--port=0")
    assert done.code == 6
    assert "error E506: another `mergecore ui` works in this folder" in done.err
    assert "use the page that is open, or end it with Ctrl-C" in done.err


def test_a_folder_that_cannot_be_written_to_is_refused(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / ".mergecore-ui").symlink_to(tmp_path)
    done = cli("ui", tmp_path, "--no-browser", "--port=0")
    assert done.code == 6
    assert "the page cannot remember anything here: '.mergecore-ui' is a link; remove it" in done.err
    assert "choose a folder that you may write to" in done.err
