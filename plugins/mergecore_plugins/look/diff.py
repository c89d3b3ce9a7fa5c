"""The command `mergecore diff`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import click

from mergecore import hookimpl
from mergecore.cli import check_report, common_options, show_text, write_report
from mergecore.errors import InputError


@hookimpl
def mergecore_commands() -> Iterator[click.Command]:
    """Yield `diff`."""
    yield diff


@click.command()
@click.argument("a")
@click.argument("b")
@click.option("--base", metavar="C", help="Compare what A and B changed of the model C.")
@click.option("--rank", is_flag=True, help="Add effective ranks of the changes; takes much longer.")
@click.option("--html", type=click.Path(path_type=Path), metavar="FILE", help="Write a report too.")
@click.option("-j", "--threads", type=click.IntRange(1), metavar="N", help="Number of threads.")
@click.option("--offline", is_flag=True, help="Do not use the network; read hub models from the cache.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs: every tensor.")
@common_options
def diff(
    a: str,
    b: str,
    base: str | None,
    rank: bool,
    html: Path | None,
    threads: int | None,
    offline: bool,
    as_json: bool,
    disabled: Sequence[str],
) -> None:
    """Show how the models A and B differ.

    Tensor by tensor, and whether one came of the other.  Every weight is read once, in bounded memory.  The
    exit code is 3 when nothing can be said of their origin.
    """
    from mergecore import Registry
    from mergecore_plugins.look.difference import difference

    if html is not None:
        check_report(html)
    found = difference(a, b, base, Registry.discover(disabled), offline=offline, rank=rank, threads=threads)
    if html is not None:
        from mergecore_plugins.look.page import report

        write_report(html, report(found))
    if as_json:
        click.echo(json.dumps(found.as_json()))
    else:
        show_text(found.as_text())
    if not found.kinship.judged:
        hint = "compare models of one architecture, and a --base that both may come from"
        raise InputError("E225", "the weights do not say whether the models have one origin", hint=hint)
