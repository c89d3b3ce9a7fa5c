"""What `mergecore demo` does: write checkpoints and configs, merge, score, print one table.

Read `run`; each step below it is one function.
"""

from __future__ import annotations

import shlex
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
    click.echo(_TALK.format(out=out))
    _merge(out, "talk/merge.yml", "talk/merged", overwrite=overwrite)
    from mergecore_plugins.commands.demo import scoring, talk  # loads transformers, which takes seconds

    click.echo()
    talk.show(out / "talk")
    click.echo(_DIGITS.format(out=out))
    for method in METHODS:
        _merge(out, f"{method}.yml", f"merged/{method}", overwrite=overwrite)
    scoring.score(out)
    click.echo(_END.format(out=out, activate=_activation()))


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
        _copy(ASSETS / "talk", out / "talk")
    except OSError as error:
        what = f"cannot be written: {error.strerror}"
        raise OutputError("E505", what, place=error.filename, hint="name another folder") from error


def _copy(folder: Path, target: Path) -> None:
    """Copy the files but not their modes: an installed package may be read-only."""
    for source in folder.rglob("*.*"):
        copy = target / source.relative_to(folder)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, copy)


def _merge(out: Path, config: str, merged: str, *, overwrite: bool) -> None:
    """Run `mergecore merge` as a user would, in a process of its own; a merge that fails ends the demo."""
    arguments = ["merge", config, merged, *(["--overwrite"] if overwrite else [])]
    click.echo(f"\n{_first_line(out / config)}")
    click.secho(f"$ mergecore {' '.join(arguments)}", bold=True)
    finished = subprocess.run([sys.executable, "-m", "mergecore", *arguments], cwd=out, check=False)
    if finished.returncode:
        raise click.exceptions.Exit(finished.returncode)


def _first_line(file: Path) -> str:
    return file.read_text(encoding="utf-8").partition("\n")[0]


def _activation() -> str:
    """The line that makes `mergecore` a command of the user's shell; nothing where it is one."""
    found = shutil.which("mergecore")
    if found and Path(found).parent.resolve() == Path(sys.executable).parent.resolve():
        return ""
    script = Path(sys.executable).parent / "activate"
    if script.is_file():
        return f"  . {shlex.quote(str(script))}\n"
    return f"  alias mergecore={shlex.quote(f'{shlex.quote(sys.executable)} -m mergecore')}\n"


_TALK = """\
1. Models that talk

Three tiny language models are now in {out}/talk.
The base has mixed up the sounds of twelve animals, and twelve capitals.
Each of two experts has learned one of these subjects by heart."""

_DIGITS = """
The merged model knows what both experts know.  Nobody has trained it.

2. Models that read digits

Four small models are in {out}/models:
a base that has seen a few handwritten digits, and three fine-tunes of it that
have seen many, each in one way: rotated, mirrored, or as a negative."""

_END = """
Each fine-tune reads the digits it was tuned on, and the others worse than
the base does.  Each merge reads all three kinds better than the base.

The merged models are in {out}/talk/merged
and {out}/merged, and load in transformers.
Next, change `lambda` in {out}/ties.yml and see what it does:

{activate}  cd {out}
  mergecore merge ties.yml merged/mine
  mergecore demo . --score"""
