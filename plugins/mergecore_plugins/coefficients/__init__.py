"""Policies, which choose numbers of a merge config from its models; and `mergecore coefficients`, which asks them.

Each policy has a module of its own; `sums.py` reads what several of them need of the weights.
"""

from __future__ import annotations

from collections.abc import Iterator

import click

from mergecore import hookimpl
from mergecore_plugins.coefficients.command import coefficients


@hookimpl
def mergecore_commands() -> Iterator[click.Command]:
    """Yield the command `coefficients`."""
    yield coefficients
