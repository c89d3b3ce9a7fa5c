"""The trial of every class: `make coverage`, or `python -m zoo [WORD …]` with the folder of this package on the path.

Prints each class that fails and whether that is known, then how many model types are covered.  The exit code
is 1 when fewer are covered than wanted, or when a failure is not in the list of known ones, or is no more.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import click
import torch
import yaml
from zoo.classes import Entry, entries
from zoo.trial import Fault, Outcome, trial

from mergecore.plugins.registry import Registry

WANTED = 0.95
PROCESSES = min(8, os.cpu_count() or 1)
KNOWN = Path(__file__).with_name("known.yml")


def main(words: Sequence[str]) -> int:
    """Try every class whose name or model type holds one of `words`, or all of them."""
    chosen = [entry for entry in entries() if not words or any(word in str(entry) for word in words)]
    begin = time.monotonic()
    with ProcessPoolExecutor(PROCESSES) as pool:
        results = list(zip(chosen, pool.map(_try, chosen, chunksize=4), strict=True))
    faults = {str(entry): outcome.fault for entry, (outcome, _) in results if outcome.fault}
    stacked = {entry for entry, (outcome, _) in results if outcome.stacked}
    known = known_faults()
    for name, fault in faults.items():
        said = "known" if name in known else "NEW"
        click.echo(f"{said}: {name}: {fault.stage}: {fault.reason}")
    healed = [str(entry) for entry in chosen if str(entry) in known and str(entry) not in faults]
    for name in healed:
        click.echo(f"HEALED: {name} is in {KNOWN.name}, and works")
    seconds = sum(cpu for _, (_, cpu) in results)
    click.echo(f"{seconds:.0f} s of CPU time, {time.monotonic() - begin:.0f} s")
    enough = _summary(chosen, faults)
    click.echo(
        f"layers stacked: {len(stacked)} classes; refused with a reason: {len(chosen) - len(faults) - len(stacked)}"
    )
    return 0 if enough and not healed and faults.keys() <= known.keys() else 1


def known_faults() -> dict[str, str]:
    """The classes that fail, and why, as they are checked in."""
    known = yaml.safe_load(KNOWN.read_text())
    return {str(name): str(reason) for name, reason in (known or {}).items()}


def _summary(chosen: Sequence[Entry], faults: dict[str, Fault]) -> bool:
    """Print how many model types and classes are covered; whether that is enough."""
    saved = [entry for entry in chosen if str(entry) not in faults or faults[str(entry)].ours]
    covered = [entry for entry in saved if str(entry) not in faults]
    types = {entry.model_type for entry in saved}
    failing = {entry.model_type for entry in saved if str(entry) in faults}
    click.echo(
        f"covered: {len(types) - len(failing)} of {len(types)} model types, {len(covered)} of {len(saved)} classes "
        f"that transformers saves ({len(chosen)} classes, {len({one.model_type for one in chosen})} model types in all)"
    )
    return len(types) - len(failing) >= WANTED * len(types)


def _try(entry: Entry) -> tuple[Outcome, float]:
    """What came of a class, and the CPU time of its trial."""
    torch.set_num_threads(1)
    begin = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        try:
            outcome = trial(entry, Path(folder), Registry.discover())
        except Exception as error:  # noqa: BLE001  one class must not end the run
            outcome = Outcome(Fault("load", f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"))
    return outcome, time.process_time() - begin


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
