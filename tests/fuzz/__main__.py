"""Random merges against the reference: `python -m fuzz --runs 2000 --seed 0 --method ties`.

A run that fails prints the command that repeats it alone and keeps its folder, with models, config and output.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections import Counter
from pathlib import Path

import click
import torch

from fuzz.cases import case
from fuzz.reference.methods import METHODS
from fuzz.running import Report, try_case


@click.command()
@click.option("--runs", default=200, show_default=True, help="How many merges to try.")
@click.option("--seed", default=0, show_default=True, help="Of all random choices.")
@click.option("--method", type=click.Choice(list(METHODS)), help="Only this one.")
@click.option("--first", default=0, show_default=True, help="Number of the first run.")
@click.option("--stop-after", default=10, show_default=True, help="Stop after so many failures.")
@click.option("--keep", type=click.Path(path_type=Path), help="Where to keep the folders of failures.")
def main(runs: int, seed: int, method: str | None, first: int, stop_after: int, keep: Path | None) -> None:
    """Try random merges; the exit status is 1 when one differs from the reference."""
    torch.set_num_threads(1)
    keep = (keep or Path(tempfile.mkdtemp(prefix="mergecore-fuzz-"))).absolute()
    began, reports, failures = time.monotonic(), [], 0
    kinds: Counter[str] = Counter()
    for number in range(first, first + runs):
        report, kind = _one(seed, number, method, keep)
        reports.append(report)
        kinds[kind] += 1
        failures += bool(report.wrong)
        if failures >= stop_after:
            click.echo(f"stopped after {failures} failures")
            break
    _summary(reports, kinds, time.monotonic() - began)
    raise SystemExit(bool(failures))


def _one(seed: int, number: int, method: str | None, keep: Path) -> tuple[Report, str]:
    """Try one; a failure is told and kept."""
    drawn = case(seed, number, method)
    folder = keep / f"seed{seed}-run{number}"
    folder.mkdir(parents=True)
    report = try_case(drawn, folder)
    if not report.wrong:
        shutil.rmtree(folder)
        return report, drawn.kind
    only = f" --method {method}" if method else ""
    click.echo(f"run {number} ({drawn.method}, {drawn.kind}) differs:")
    for line in report.wrong[:5]:
        click.echo(f"  {line}")
    click.echo(f"  config  {json.dumps(drawn.config)}")
    click.echo(f"  run     {json.dumps(drawn.run)}")
    click.echo(f"  folder  {folder}")
    click.echo(f'  again   make fuzz FUZZ="--seed {seed} --first {number} --runs 1{only}"')
    return report, drawn.kind


def _summary(reports: list[Report], kinds: Counter[str], seconds: float) -> None:
    """Print what was compared."""
    checked, unchecked = sum(one.checked for one in reports), sum(one.unchecked for one in reports)
    share = unchecked / max(1, checked + unchecked)
    good = sum(not one.wrong for one in reports)
    click.echo(
        f"{good} of {len(reports)} merges agree, in {seconds:.0f} s: {sum(one.tensors for one in reports)} tensors, "
        f"{checked} entries; {share:.2%} more hang on rounding errors"
    )
    click.echo(", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items())))
    worst = max((one.worst for one in reports if not one.wrong), default=0.0)
    click.echo(f"largest error: {worst:.2f} of what is allowed")


if __name__ == "__main__":
    main()
