"""`mergecore ui`: a page on this machine to write configs, see what they do, and merge.

The command is here.  `server` makes the server and says who may ask it, `page` has what the editor asks for, `configs`
opens, composes and saves them, `planning` plans what is typed, `runs` carries out command lines.  Further parts of the
page are `Panel`s.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import click

from mergecore import PluginError, hookimpl
from mergecore.cli import common_options


@hookimpl
def mergecore_commands() -> Iterator[click.Command]:
    """Yield `ui`."""
    yield ui


@click.command()
@click.argument(
    "folder", metavar="[DIR]", default=".", type=click.Path(exists=True, file_okay=False, path_type=Path)
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    metavar="N",
    help="By default 8484, or a free one if it is taken.",
)
@click.option("--no-browser", is_flag=True, help="Print the address, and open no browser.")
@common_options
def ui(folder: Path, port: int | None, no_browser: bool, disabled: Sequence[str]) -> None:
    """Open a page to write, see and run merges.

    The page works in DIR, by default the folder that you are in, and is for this
    machine alone. Its address holds a key: whoever has it can merge as you can.
    End it with Ctrl-C; merges that run are stopped, and go on with Resume.
    """
    try:
        from mergecore_plugins.ui.server.serving import serve
    except ModuleNotFoundError as error:
        if error.name not in ("starlette", "uvicorn"):
            raise
        hint = "run `pip install 'mergecore[ui]'`"
        raise PluginError(
            "E601", f"the page needs {error.name}, which is not installed", hint=hint
        ) from error
    serve(folder, port, open_browser=not no_browser, disabled=tuple(disabled))
