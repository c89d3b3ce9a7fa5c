"""Files that the page itself writes, all below its folder; read `inside`, then `write`."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path, PurePosixPath

STATE = ".mergecore-ui"
"""The folder that remembers runs and the draft."""
SUFFIXES = (".yml", ".yaml")


class Elsewhere(ValueError):
    """A name that is none of a config below the folder."""


def state(folder: Path) -> Path:
    """The folder that remembers what the page did; made where it is missing.

    Raises:
        Elsewhere: where a link stands in its place.
    """
    found = folder / STATE
    if found.is_symlink():
        raise Elsewhere(f"'{STATE}' is a link; remove it")
    if not found.is_dir():
        found.mkdir(mode=0o700)
        (found / ".gitignore").write_text("*\n", encoding="utf8")
    return found


def inside(folder: Path, name: str) -> Path:
    """The path of a config below `folder`.

    Raises:
        Elsewhere: for a name that leads out of it, through a link, to a hidden file, or to no YAML file.
    """
    parts = PurePosixPath(name).parts
    if not parts or "\0" in name or "\\" in name or len(name.encode()) > 1000:
        raise Elsewhere("a name is needed, such as merge.yml")
    if PurePosixPath(name).is_absolute() or ".." in parts:
        raise Elsewhere(f"'{name}' is not below the folder of this page")
    if any(one.startswith(".") for one in parts):
        raise Elsewhere(f"'{name}' is hidden; choose a name that begins with a letter")
    if not name.isprintable():
        raise Elsewhere(f"{name!r} holds characters that cannot be shown; choose another name")
    if not name.endswith(SUFFIXES):
        raise Elsewhere(f"'{name}' does not end with .yml")
    path = folder.joinpath(*parts)
    if path.is_symlink() or not path.resolve().is_relative_to(folder.resolve()):
        raise Elsewhere(f"'{name}' leads out of the folder of this page")
    return path


def write(path: Path, text: str) -> None:
    """Write a file at once: it holds what it held before, or all of the text."""
    path.parent.mkdir(parents=True, exist_ok=True)
    number, made = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".part")
    try:
        with os.fdopen(number, "w", encoding="utf8", newline="") as file:
            file.write(text)
        if path.exists():
            Path(made).chmod(path.stat().st_mode & 0o777)
        else:
            Path(made).chmod(0o666 & ~_mask())
        Path(made).replace(path)
    except BaseException:
        Path(made).unlink(missing_ok=True)
        raise


def _mask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
