"""`mergecore search`: looks for the values of a config that make the best model.

`command` has the options; `space` reads a config with ranges, `searching` carries the search out with `driving`,
`judging` makes and scores models, and `findings` says what it comes to.
"""

from __future__ import annotations

from collections.abc import Iterator

import click

from mergecore import hookimpl
from mergecore_plugins.search.command import search


@hookimpl
def mergecore_commands() -> Iterator[click.Command]:
    """Yield the command `search`."""
    yield search
