"""What `mergecore demo` does: write checkpoints and configs, merge, score, print one table.

Read `run`; each step below it is one function.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import click

from mergecore import OutputError
from mergecore_plugins.commands.demo import ASSETS

METHODS = ("linear", "task_arithmetic", "ties")


def run(out: Path, *, overwrite: bool = False) -> None:
    """Write the demo's models and configs into `out`, merge them, score them, and say what came out.

    Raises:
        OutputError: E501 `out` is not empty, E505 it cannot be written, E508 a model does not load whole.
    """
    _write_inputs(out, overwrite=overwrite)
    click.echo(_BEGINNING.format(out=out))
    for method in METHODS:
        _merge(out, method, overwrite=overwrite)
    from mergecore_plugins.commands.demo.scoring import score  # loads transformers, which takes seconds

    score(out)
    click.echo(_END.format(out=out))


def _write_inputs(out: Path, *, overwrite: bool) -> None:
    """Copy the checkpoints and the configs of the package; nothing else in `out` is touched."""
    if out.is_dir() and any(out.iterdir()) and not overwrite:
        raise OutputError(
            "E501",
            "the folder is not empty",
            place=str(out),
            hint="name another one, or --overwrite to write the demo's own files there again",
        )
    try:
        _copy(ASSETS / "models", out / "models")
        _copy(ASSETS / "configs", out)
    except OSError as error:
        what = f"cannot be written: {error.strerror}"
        raise OutputError("E505", what, place=error.filename, hint="name another folder") from error


def _copy(folder: Path, target: Path) -> None:
    """Copy the files but not their modes: an installed package may be read-only."""
    for source in folder.rglob("*.*"):
        copy = target / source.relative_to(folder)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, copy)


def _merge(out: Path, method: str, *, overwrite: bool) -> None:
    """Run `mergecore merge` as a user would, in a process of its own; a merge that fails ends the demo."""
    config = f"{method}.yml"
    arguments = ["merge", config, f"merged/{method}", *(["--overwrite"] if overwrite else [])]
    click.echo(f"\n{_first_line(out / config)}")
    click.secho(f"$ mergecore {' '.join(arguments)}", bold=True)
    finished = subprocess.run([sys.executable, "-m", "mergecore", *arguments], cwd=out, check=False)
    if finished.returncode:
        raise click.exceptions.Exit(finished.returncode)


def _first_line(file: Path) -> str:
    return file.read_text(encoding="utf-8").partition("\n")[0]


_BEGINNING = """\
Four small models are now in {out}/models: a base that has seen a few handwritten digits, and
three fine-tunes of it that have seen many, each in one way: rotated, mirrored, or as a negative."""

_END = """
Each fine-tune reads the digits it was tuned on, and the others worse than the base does.
Each merge reads all three kinds better than the base: one model, made without data or training.

The merged models are in {out}/merged and load in transformers.  Next, change `lambda` in
{out}/ties.yml and see what it does:

  cd {out}
  mergecore merge ties.yml merged/mine
  mergecore demo . --score"""
