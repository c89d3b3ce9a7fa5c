"""The command `mergecore search`."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mergecore.cli import check_report, common_options, show_text, write_report
from mergecore.errors import counted

if TYPE_CHECKING:
    from mergecore_plugins.search.findings.results import Findings
    from mergecore_plugins.search.journal import Trial
    from mergecore_plugins.search.searching import Prepared


@click.command()
@click.argument("config", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--trials", type=click.IntRange(1), metavar="N", help="Points to try; overrides the config.")
@click.option("--time", metavar="TIME", help="How long it may take, such as 2h; overrides the config.")
@click.option("--sampler", metavar="NAME", help="How points are chosen, such as tpe, cma, random or grid.")
@click.option("--seed", type=click.IntRange(0), metavar="N", help="What the points depend on.")
@click.option("--check", "only_check", is_flag=True, help="Check everything and stop; no weight is read.")
@click.option("--write/--no-write", default=True, show_default=True, help="Write the winner to OUT/merged.")
@click.option("--jobs", type=click.IntRange(1), metavar="N", default=1, show_default=True, help="Processes.")
@click.option(
    "-j",
    "--threads",
    type=click.IntRange(1),
    metavar="N",
    help="Threads of each process; scores may depend on it.",
)
@click.option("--device", default="cpu", show_default=True, metavar="NAME", help="cpu, cuda, auto, ...")
@click.option("--dtype", default="auto", show_default=True, metavar="NAME", help="What models compute in.")
@click.option("--resume", is_flag=True, help="Go on with the search in OUT, to the same result.")
@click.option("--restart", is_flag=True, help="Discard the search in OUT and begin anew.")
@click.option(
    "--allow-public-test-sets",
    is_flag=True,
    help="Search on the public test set of a benchmark all the same.",
)
@click.option("--html", type=click.Path(path_type=Path), metavar="FILE", help="Write a page about it too.")
@click.option("--offline", is_flag=True, help="Do not use the network; read hub models from the cache.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
@click.option("-q", "--quiet", is_flag=True, help="Print errors and the result only.")
@common_options
def search(config: Path, out: Path, disabled: Sequence[str], **given: Any) -> None:
    """Look for the values of CONFIG that make the best model.

    CONFIG is a merge config in which values are ranges, with a section that says what is to be good:

    \b
      merge_method: !choice [ties, dare_ties]
      base_model: ./base
      models:
        - model: ./code
          parameters: {weight: !range [0, 1]}
        - model: ./math
          parameters: {weight: !range {low: 0, high: 1, per: layer_group}}
      search:
        trials: 60
        objectives: [{evaluator: perplexity, texts: dev.txt}]
        holdout: {texts: test.txt}

    OUT gets best.yml, a merge config; its model in OUT/merged; history.jsonl and search.json.  The average of the
    models, each of them and their base are scored too.
    """  # noqa: D301  # click takes the backspace itself as a mark
    from mergecore_plugins.search.searching import carried_out, prepared

    if given["resume"] and given["restart"]:
        raise click.UsageError("--resume and --restart exclude each other")
    html: Path | None = given["html"]
    if html is not None and html.absolute().parent != out.absolute():  # OUT itself is made if it is not there
        check_report(html, overwrite=given["restart"])
    made = prepared(_asked(config, disabled, given))
    if not given["quiet"]:
        click.echo(_begun(made, given["only_check"]), err=True)
    if given["only_check"]:
        return
    mode = "resume" if given["resume"] else "restart" if given["restart"] else "new"
    told = _Progress(given["quiet"])
    found = carried_out(made, out, jobs=given["jobs"], mode=mode, told=told)  # type: ignore[arg-type]
    written = _write(found, made, out) if given["write"] else None
    if html is not None:
        from mergecore_plugins.reports import search_report

        write_report(html, search_report(found.as_json()), quiet=given["quiet"])
    _show(found, out, written, given["as_json"])


def _asked(config: Path, disabled: Sequence[str], given: Mapping[str, Any]) -> Any:
    from mergecore_plugins.search.judging.bench import Asked

    instead = {key: given[key] for key in ("trials", "time", "sampler", "seed") if given[key] is not None}
    if given["allow_public_test_sets"]:
        instead["allow_public_test_sets"] = True
    threads = given["threads"] or max(1, (os.cpu_count() or 1) // given["jobs"])
    return Asked(
        str(config),
        json.dumps(instead),
        tuple(disabled),
        given["offline"],
        given["device"],
        given["dtype"],
        threads,
    )


def _begun(made: Prepared, only_check: bool) -> str:
    """What is going to be done, or what was checked."""
    section = made.search.section
    bound = [
        counted(section.trials, "point") if section.trials else "",
        f"{section.time:.0f} s" if section.time else "",
    ]
    several = len(made.request.dimensions)
    marked = "" if only_check else " (*: the best so far)"
    lines = [
        f"{'checked' if only_check else 'searching'} {counted(several, 'value')} by {made.sampler.name}, "
        f"{' or '.join(filter(None, bound))}{marked}",
        "also scored:",
        *(f"  {one.name}" for one in made.references),
        *(f"note: {one}" for one in made.notes),
        *(["nothing is wrong; no weight was read"] if only_check else []),
    ]
    return "\n".join(lines)


class _Progress:
    """A line for every model that is scored, on standard error."""

    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet
        self._best: float | None = None

    def __call__(self, trial: Trial, made: Prepared) -> None:
        if self._quiet:
            return
        from mergecore_plugins.search.findings.showing import line_of

        point = made.search.space.shown(trial.point)
        first = trial.values[0] if trial.complete and trial.values else None
        better = first is not None and (self._best is None or first > self._best)
        self._best = first if better else self._best
        click.echo(line_of(trial, point, better), err=True)


def _write(found: Findings, made: Prepared, out: Path) -> Path | None:
    """Write the model that the search recommends to OUT/merged, as any merge is written."""
    from mergecore_plugins.search.findings.writing import write_winner

    return write_winner(found, made, out / "merged")


def _show(found: Findings, out: Path, written: Path | None, as_json: bool) -> None:
    from mergecore_plugins.search.findings.showing import table

    if as_json:
        click.echo(json.dumps(found.as_json()))
    else:
        show_text(table(found, out, written))
