"""Starts the server on this machine, says where it is, and ends it; read `serve`."""

from __future__ import annotations

import fcntl
import os
import secrets
import socket
import webbrowser
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from threading import Timer
from typing import BinaryIO

import click
import uvicorn

from mergecore import ConfigError, OutputError
from mergecore_plugins.ui.configs.files import Elsewhere, state
from mergecore_plugins.ui.server.app import make_app

PORT = 8484
"""Where the page is, unless something else is there."""


def serve(folder: Path, port: int | None, *, open_browser: bool, disabled: Sequence[str]) -> None:
    """Serve the page of a folder until Ctrl-C.

    Raises:
        ConfigError: E115 the port that was asked for cannot be used.
        OutputError: as `_alone` does.
    """
    with _alone(folder.absolute()), _listening(port) as listening:
        os.chdir(folder)  # paths in configs start here, as those of a command line do
        token = secrets.token_urlsafe(24)
        number = listening.getsockname()[1]
        app = make_app(Path.cwd(), token, number, disabled=disabled)
        address = f"http://127.0.0.1:{number}/?token={token}"
        click.echo(f"The page is at\n\n  {address}\n\nIt is for this machine alone. End it with Ctrl-C.")
        if open_browser:
            opening = Timer(0.3, webbrowser.open, [address])
            opening.daemon = True
            opening.start()
        config = uvicorn.Config(
            app, log_level="error", access_log=False, timeout_graceful_shutdown=3, ws="none"
        )
        with suppress(KeyboardInterrupt):
            uvicorn.Server(config).run(sockets=[listening])


def _alone(folder: Path) -> BinaryIO:
    """An open file that says that a server works in the folder, for two would run everything twice.

    Raises:
        OutputError: E506 another server does, E505 nothing can be written there.
    """
    try:
        file = (state(folder) / "server.lock").open("ab")
    except (OSError, Elsewhere) as error:
        hint = "choose a folder that you may write to"
        raise OutputError("E505", f"the page cannot remember anything here: {error}", hint=hint) from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.close()
        hint = "use the page that is open, or end it with Ctrl-C"
        raise OutputError("E506", "another `mergecore ui` works in this folder", hint=hint) from error
    return file


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
