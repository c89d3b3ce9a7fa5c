"""The command `mergecore inspect`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

import click

from mergecore import hookimpl
from mergecore.cli import common_options, show_text


@hookimpl
def mergecore_commands() -> Iterator[click.Command]:
    """Yield `inspect`."""
    yield inspect


@click.command()
@click.argument("model")
@click.option("--offline", is_flag=True, help="Do not use the network; read hub models from the cache.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
@common_options
def inspect(model: str, offline: bool, as_json: bool, disabled: Sequence[str]) -> None:
    """Show what is in MODEL.

    Layers, parameters, formats, tokenizer, what is odd.  MODEL is named as in a config: a folder, a file, a hub
    id, BASE+ADAPTER.  No weight is read.
    """
    from mergecore import Registry
    from mergecore_plugins.look.contents import inspected

    found = inspected(model, Registry.discover(disabled), offline=offline)
    if as_json:
        click.echo(json.dumps(found.as_json()))
    else:
        show_text(found.as_text())
