"""Does a merge by processes survive its workers?  Kills them at random and compares the bytes with those of threads.

    python benchmarks/killed_workers.py --kills 10

The model is merged once by `threads`, then by `processes` with two workers, of which one is killed (SIGKILL) at random
moments, until so many have died.  The exit status is 1 when any file differs.
"""

import multiprocessing
import random
import sys
import tempfile
import time
from pathlib import Path

import click

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.checkpoints import LlamaShape, write_set

import mergecore
from mergecore import RunOptions
from mergecore.types import Event, Json, StepDone

SHAPE = LlamaShape(
    hidden=768, intermediate=2048, layers=16, heads=12, key_value_heads=4, vocabulary=16000, tied=False
)
CONFIG: dict[str, Json] = {
    "merge_method": "della",
    "parameters": {"density": 0.5, "weight": 0.5, "epsilon": 0.1},
    "dtype": "bfloat16",
}


@click.command()
@click.option("--kills", default=10, show_default=True)
@click.option("--seed", default=0, show_default=True)
def main(kills: int, seed: int) -> None:
    """Merge twice, kill workers on the way, and compare."""
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        models = write_set(folder / "models", SHAPE, models=2)
        click.echo(f"{SHAPE.parameters() / 1e6:.0f} M parameters")
        config = {**CONFIG, "base_model": str(models.base)}
        config["models"] = [{"model": str(one)} for one in models.models]
        wanted = mergecore.merge(config, folder / "threads")
        killer = Killer(kills, random.Random(seed))
        options = RunOptions(executor="processes", threads=2)
        made = mergecore.merge(config, folder / "processes", run_options=options, progress=killer)
        different = [
            path.name
            for path in sorted(wanted.iterdir())
            if path.read_bytes() != (made / path.name).read_bytes()
        ]
        click.echo(f"{killer.killed} of {kills} kills done; files that differ: {different or 'none'}")
        sys.exit(bool(different) or killer.killed < kills)


class Killer:
    """Kills a worker now and then, while it makes a tensor or begins; never before the last one was replaced."""

    def __init__(self, kills: int, drawn: random.Random) -> None:
        self.kills, self.drawn = kills, drawn
        self.killed = 0
        self.wait = 1

    def __call__(self, event: Event) -> None:
        """Count finished tensors; kill when it is time."""
        if not isinstance(event, StepDone) or self.killed == self.kills:
            return
        self.wait -= 1
        workers = multiprocessing.active_children()
        if self.wait <= 0 and workers:
            time.sleep(self.drawn.uniform(0, 0.2))
            self.drawn.choice(workers).kill()
            self.killed += 1
            self.wait = self.drawn.randint(2, 9)


if __name__ == "__main__":
    main()
