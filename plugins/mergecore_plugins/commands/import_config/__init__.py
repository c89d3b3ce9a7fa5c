"""`mergecore import-config`: configs and scripts of mergekit as a config of today.

`command.py` prints what `importing.py` makes.  `removing.py`
takes keys out of a text and leaves its comments; `bakllama.py`, `parameters_by_model.py`
and `scripts.py` write another form anew.
"""

from __future__ import annotations

from collections.abc import Iterator

import click

from mergecore import hookimpl
from mergecore_plugins.commands.import_config.command import import_config


@hookimpl
def mergecore_commands() -> Iterator[click.Command]:
    """Yield the command `import-config`."""
    yield import_config
