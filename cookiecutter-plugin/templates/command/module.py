"""{{ cookiecutter.name }}: a command that counts the parameters of a model, and reads no weight."""

from collections import Counter
from collections.abc import Iterator
from math import prod

import click
from mergecore import Registry, hookimpl, planner
from mergecore.cli import common_options


@click.command("{{ cookiecutter.name }}")
@click.argument("model")
@common_options
def count(model: str, disabled: tuple[str, ...]) -> None:
    """Count the parameters of MODEL, by their number format."""
    opened = planner(registry=Registry.discover(disabled)).open(model, ("MODEL",))
    counts: Counter[str] = Counter()
    for one in opened.tensors.values():
        counts[one.dtype] += prod(one.shape)
    for dtype, number in sorted(counts.items()):
        click.echo(f"{dtype:<5} {number:>15,}")


@hookimpl
def mergecore_commands() -> Iterator[click.Command]:
    yield count
