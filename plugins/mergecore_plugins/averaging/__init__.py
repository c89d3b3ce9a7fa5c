"""`mergecore average`: checkpoints of one training run, found by their steps and merged by the method `average`.

`runs.py` finds the checkpoints, `choosing.py` makes a merge config of those that are asked for.
"""

from __future__ import annotations

from collections.abc import Iterator

import click

from mergecore import hookimpl
from mergecore_plugins.averaging.command import average


@hookimpl
def mergecore_commands() -> Iterator[click.Command]:
    """Yield the command `average`."""
    yield average
