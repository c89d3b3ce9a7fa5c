"""The command `mergecore evaluate`: `comparing` gathers what is known, `table` shows it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from mergecore import hookimpl
from mergecore.cli import check_report, common_options, show_text, write_report


@hookimpl
def mergecore_commands() -> Iterator[click.Command]:
    """Yield `evaluate`."""
    yield evaluate


@click.command()
@click.argument("models", nargs=-1, required=True, metavar="MODEL|CONFIG…")
@click.option(
    "--with",
    "files",
    multiple=True,
    required=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="What to evaluate with, a YAML file; repeatable.",
)
@click.option(
    "--parents/--no-parents",
    default=True,
    show_default=True,
    help="Evaluate what is merged beside the merge.",
)
@click.option("--against", metavar="MODEL", help="Whom the others are compared with; else the first.")
@click.option(
    "--sweep",
    metavar="NAME=VALUES",
    help="Try a parameter of CONFIG at several values, such as lambda=0.1:1:0.1.",
)
@click.option("--limit", type=click.IntRange(1), metavar="N", help="The first N samples of each alone.")
@click.option("--device", default="cpu", show_default=True, metavar="NAME", help="cpu, cuda, auto, ...")
@click.option("--dtype", default="auto", show_default=True, metavar="NAME", help="What models compute in.")
@click.option("--seed", type=int, default=0, show_default=True, metavar="N", help="For the intervals.")
@click.option("--html", type=click.Path(path_type=Path), metavar="FILE", help="Write a report too.")
@click.option("--cache", type=click.Path(path_type=Path), metavar="FOLDER", help="Where scores are kept.")
@click.option("--no-cache", is_flag=True, help="Evaluate again what is known, and keep nothing.")
@click.option("--offline", is_flag=True, help="Do not use the network; read hub models from the cache.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs: every sample.")
@common_options
def evaluate(models: Sequence[str], disabled: Sequence[str], as_json: bool, **given: Any) -> None:
    """Say how good models are, or merges that are not written.

    MODEL is named as in a config: a folder, a hub id, BASE+ADAPTER.  CONFIG is a file: it is merged in memory, and
    nothing is written.  Models stand side by side, those that are merged beside the merge, and differences have
    intervals: what is within noise is called so.  What is known already is not evaluated again.
    """
    from mergecore import Registry
    from mergecore_plugins.evaluation.evaluate.comparing import Asked, compare
    from mergecore_plugins.evaluation.evaluate.sweeping import read_sweep
    from mergecore_plugins.evaluation.evaluate.table import as_text

    if given["sweep"] is not None:
        given["sweep"] = read_sweep(given["sweep"])
    html: Path | None = given.pop("html")
    if html is not None:
        check_report(html)
    found = compare(models, Asked(**given), Registry.discover(disabled))
    if html is not None:
        from mergecore_plugins.reports import evaluation_report

        write_report(html, evaluation_report(found.as_json()))
    if as_json:
        click.echo(json.dumps(found.as_json()))
    else:
        show_text(as_text(found.as_json()))
