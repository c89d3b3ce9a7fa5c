"""What `--overwrite` may replace: a finished merge, and only what that merge wrote.

`is_merge` and `foreign_weights` look at a folder before; `carry_over` takes what is not of the merge into the new one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path

from mergecore.errors import MergecoreError
from mergecore.files.folders import Folder, opened_below
from mergecore.output.manifest import NAME as MANIFEST
from mergecore.output.manifest import Manifest, parse_manifest


def is_merge(target: Path) -> bool:
    """Whether a folder, reached through no link, holds the manifest of a merge."""
    return manifest_of(target) is not None


def manifest_of(target: Path) -> Manifest | None:
    """The manifest in a folder that is reached through no link; None where there is none that can be read."""
    if target.is_symlink() or not target.is_dir():
        return None
    folder = Folder.at(target)
    try:
        return _manifest_in(folder)
    finally:
        folder.close()


def foreign_weights(target: Path) -> list[str]:
    """The files in the result of a merge that the merge did not write and that loaders may take for weights."""
    folder = Folder.at(target)
    try:
        return [name for name in _strangers(folder, _listed(folder)) if name.endswith(_WEIGHTS)]
    finally:
        folder.close()


_WEIGHTS = (".safetensors", ".safetensors.index.json", ".bin", ".bin.index.json", ".pt", ".pth", ".gguf")


def carry_over(root: Folder, old: str, new: Folder) -> tuple[str, ...]:
    """Move files of the folder called `old` that its merge did not write into the new one; their names there.

    May be repeated after an interruption.  A name that is taken in the new folder gets a `.kept` after it.
    """
    folder = replace(root, owner=None).folder(old) if root.has_folder(old) else None
    try:
        return tuple(_moved(folder, new, _listed(folder))) if folder else ()
    finally:
        new.close()
        if folder:
            folder.close()


def _listed(folder: Folder) -> set[str]:
    """The names of all files of a merge; those of any file where its manifest cannot be read: all are kept."""
    manifest = _manifest_in(folder)
    return {MANIFEST, *(file.name for file in manifest.files)} if manifest else set()


def _manifest_in(folder: Folder) -> Manifest | None:
    try:
        data = folder.read(MANIFEST)
        return parse_manifest(data, str(folder.path / MANIFEST)) if data is not None else None
    except MergecoreError:
        return None


def _strangers(folder: Folder, listed: Collection[str], prefix: str = "") -> Iterator[str]:
    for name in folder.names():
        path = f"{prefix}{name}"
        if not any(one.startswith(f"{path}/") for one in listed):
            if path not in listed:
                yield path
        elif folder.has_folder(name):
            inner = folder.folder(name)
            try:
                yield from _strangers(inner, listed, f"{path}/")
            finally:
                inner.close()
        else:
            yield path


def _moved(old: Folder, new: Folder, listed: Collection[str]) -> Iterator[str]:
    for path in list(_strangers(old, listed)):
        *folders, name = path.split("/")
        with opened_below(old, folders) as here, opened_below(new, folders) as there:
            free = name
            while there.status(free) is not None:
                free += ".kept"
            here.rename(name, there, free)
            there.sync()
            yield "/".join([*folders, free])
