"""Starts the server on this machine, says where it is, and ends it; read `serve`."""

from __future__ import annotations

import os
import secrets
import socket
import webbrowser
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from threading import Timer

import click
import uvicorn

from mergecore import ConfigError
from mergecore_plugins.ui.server.app import make_app

PORT = 8484
"""Where the page is, unless something else is there."""


def serve(folder: Path, port: int | None, *, open_browser: bool, disabled: Sequence[str]) -> None:
    """Serve the page of a folder until Ctrl-C.

    Raises:
        ConfigError: E115 the port that was asked for cannot be used.
    """
    listening = _listening(port)
    token = secrets.token_urlsafe(24)
    number = listening.getsockname()[1]
    os.chdir(folder)  # paths in configs start here, as those of a command line do
    app = make_app(Path.cwd(), token, number, disabled=disabled)
    address = f"http://127.0.0.1:{number}/?token={token}"
    click.echo(f"The page is at\n\n  {address}\n\nIt is for this machine alone. End it with Ctrl-C.")
    if open_browser:
        opening = Timer(0.3, webbrowser.open, [address])
        opening.daemon = True
        opening.start()
    config = uvicorn.Config(app, log_level="error", access_log=False, timeout_graceful_shutdown=3, ws="none")
    with suppress(KeyboardInterrupt):
        uvicorn.Server(config).run(sockets=[listening])


def _listening(port: int | None) -> socket.socket:
    """A socket of this machine alone, which listens."""
    for wanted in (PORT, 0) if port is None else (port,):
        found = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            found.bind(("127.0.0.1", wanted))
        except OSError as error:
            found.close()
            reason = error.strerror
            continue
        found.listen(128)
        return found
    hint = "name another one, or leave --port out"
    raise ConfigError("E115", f"port {port} cannot be used: {reason}", place="--port", hint=hint)
