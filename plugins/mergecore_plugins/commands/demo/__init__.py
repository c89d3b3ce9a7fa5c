"""`mergecore demo`: small models, merged and asked, without a network: some talk, some read digits.

The command is here.  `show.py` is what it does, step by step.  `sentences.py` and `digits.py` are the data, `talk.py`
and `scoring.py` ask the models, `train_talk.py` and `train.py` say how the checkpoints in `assets/` were made.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from mergecore import hookimpl

ASSETS = Path(__file__).parent / "assets"


@hookimpl
def mergecore_commands() -> Iterator[click.Command]:
    """Yield the `demo` command."""
    yield demo


@click.command()
@click.argument("out", default="mergecore-demo", type=click.Path(file_okay=False, path_type=Path))
@click.option("--overwrite", is_flag=True, help="Write the demo again into a folder that exists.")
@click.option("--score", is_flag=True, help="Only score the models in OUT, including merges of your own.")
def demo(out: Path, overwrite: bool, score: bool) -> None:
    """Merge small models, and show that it works.

    Some of the models talk, some read digits.  Writes checkpoints, configs and merged models into the folder
    OUT, by default ./mergecore-demo.  Needs no network and takes less than a minute.
    """
    if score:
        from mergecore_plugins.commands.demo import scoring

        scoring.score(out)
    else:
        from mergecore_plugins.commands.demo import show

        show.run(out, overwrite=overwrite)
