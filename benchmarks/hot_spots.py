"""Where the CPU time of a merge goes: `python benchmarks/hot_spots.py slerp`; one thread, one process.

The profiler itself costs a third more, mostly where many small calls are made.
"""

import cProfile
import pstats
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, cast

import click

if TYPE_CHECKING:
    from mergecore.types import Json

ROOT = Path(__file__).resolve().parent.parent
SHOWN = 14


@click.command()
@click.argument("method")
@click.option("--parameters", default="0.1B", help="Size of each model.")
@click.option("--workdir", type=click.Path(path_type=Path), help="Keeps the checkpoints for the next run.")
def main(method: str, parameters: str, workdir: Path | None) -> None:
    """Print the functions that take most of the CPU time of a merge by METHOD, in ns per parameter."""
    with tempfile.TemporaryDirectory(prefix="hot-spots-") as folder:
        profile(method, parameters, workdir or Path(folder))


def profile(method: str, parameters: str, root: Path) -> None:
    """Merge twice, so that the page cache is warm, and print the profile of the second run."""
    sys.path.insert(0, str(ROOT))
    from benchmarks.checkpoints import parse_count, shape_for, write_set
    from benchmarks.methods import config_for

    from mergecore import Registry, RunOptions, execute, plan

    made = write_set(root / parameters, shape_for(parse_count(parameters)), 3)
    registry, out = Registry.discover(), root / "profiled"
    config = cast("dict[str, Json]", config_for(method, made.base, made.models))
    planned = plan(config, registry=registry)
    for profiler in (None, cProfile.Profile(time.process_time)):
        shutil.rmtree(out, ignore_errors=True)
        with profiler or tempfile.TemporaryFile():
            execute(planned, out, registry=registry, options=RunOptions(threads=1))
    shutil.rmtree(out)
    assert profiler is not None
    click.echo(table_of(pstats.Stats(profiler), made.shape.parameters()))


def table_of(stats: pstats.Stats, parameters: int) -> str:
    """The functions with the most time of their own."""
    from benchmarks.pages import table

    found = stats.get_stats_profile().func_profiles
    ranked = sorted(found.items(), key=lambda one: -one[1].tottime)
    rows = [(name, f"{one.tottime / parameters * 1e9:.2f}", one.ncalls) for name, one in ranked[:SHOWN]]
    total = ("all", f"{sum(one.tottime for _, one in ranked) / parameters * 1e9:.2f}", "")
    return table(("function", "ns per parameter", "calls"), [*rows, total])


if __name__ == "__main__":
    main()
