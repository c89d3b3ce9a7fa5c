"""The command `mergecore import-config`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from mergecore.cli import common_options


@click.command("import-config")
@click.argument("file", type=click.Path(path_type=Path))
@common_options
def import_config(file: Path, disabled: Sequence[str]) -> None:
    """Print FILE, written for mergekit, as a config of today.

    FILE is a config of mergekit or bakllama, or a script with a command line of mergekit-legacy or
    mergekit-layershuffle.  What was done is said on standard error; comments are kept where keys are only left out.
    """
    from mergecore import Registry
    from mergecore.files import read_text
    from mergecore_plugins.commands.import_config.importing import imported

    made = imported(read_text(file), str(file), Registry.discover(disabled))
    for note in made.notes:
        click.echo(f"mergecore: {note}", err=True)
    click.echo(made.text, nl=False)
