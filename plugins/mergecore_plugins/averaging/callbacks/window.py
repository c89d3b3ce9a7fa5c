"""The newest checkpoints of a run, kept where Trainer does not delete them; read `Kept`.

They are hard links where the disk has such, so that they take no space while Trainer keeps its own.
"""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from mergecore import OutputError
from mergecore_plugins.averaging.runs import FOLDER, complete

FOLDER_NAME = "averaging"
"""Where they are kept, in the folder of the run."""
_TRAINING = re.compile(
    r"(optimizer|scheduler|scaler|rng_state|random_states|training_args)(?![A-Za-z]).*|.*_optim.*"
)
"""What only training goes on from."""
_HALF = ".half-"
_MARK = ".kept-by-mergecore"
"""A file that says who made the folder, and may delete what is in it."""


@dataclass(frozen=True)
class Kept:
    """The checkpoints kept in the folder of a run, the newest `count` of them."""

    run: Path
    count: int

    @property
    def folder(self) -> Path:
        """Where they are, as checkpoints of a run."""
        return self.run / FOLDER_NAME

    @property
    def steps(self) -> list[int]:
        """The steps of those that are kept."""
        return _steps(self.folder)

    def begin(self, step: int) -> None:
        """Go on at `step`: forget what a run had saved beyond it, keep what is still there from before.

        Raises:
            OutputError: E501 when somebody else has put checkpoints there.
        """
        if self.steps and not (self.folder / _MARK).exists():
            what = f"{self.folder} has checkpoints that this callback did not put there"
            raise OutputError(
                "E501", what, hint="move them elsewhere: the callback deletes old ones in that folder"
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / _MARK).touch()
        for half in self.folder.glob(f"{_HALF}*"):
            shutil.rmtree(half)
        for later in [one for one in self.steps if one > step]:
            shutil.rmtree(self._path(later))
        for earlier in [one for one in _steps(self.run) if one <= step][-self.count :]:
            if earlier not in self.steps and complete(self.run / f"checkpoint-{earlier}"):
                self.add(earlier)
        self._forget()

    def add(self, step: int) -> None:
        """Keep a checkpoint that Trainer has just saved."""
        half = self.folder / f"{_HALF}{step}"
        shutil.rmtree(half, ignore_errors=True)
        shutil.copytree(
            self.run / f"checkpoint-{step}", half, ignore=_left_out, copy_function=_link, symlinks=False
        )
        shutil.rmtree(self._path(step), ignore_errors=True)
        half.rename(self._path(step))
        self._forget()

    def _forget(self) -> None:
        for step in self.steps[: -self.count]:
            shutil.rmtree(self._path(step))

    def _path(self, step: int) -> Path:
        return self.folder / f"checkpoint-{step}"


def _steps(folder: Path) -> list[int]:
    if not folder.is_dir():
        return []
    return sorted(int(found[1]) for one in folder.iterdir() if (found := FOLDER.fullmatch(one.name)))


def _left_out(_: str, names: list[str]) -> set[str]:
    return {name for name in names if _TRAINING.fullmatch(name)}


def _link(source: str, target: str) -> str:
    try:
        os.link(os.path.realpath(source), target)
    except OSError:  # another disk, or one without links
        shutil.copy2(source, target)
    return target
