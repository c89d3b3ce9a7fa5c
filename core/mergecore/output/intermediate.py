"""The folders of intermediate results: where they lie, whether there is room, which may be made again or removed."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path

from mergecore.errors import MergecoreError, OutputError, Problems
from mergecore.files import durable
from mergecore.files.folders import Folder, opened_below
from mergecore.files.sizes import size_text
from mergecore.output.inputs import MADE
from mergecore.output.manifest import NAME as MANIFEST
from mergecore.output.manifest import read_manifest
from mergecore.output.replacing import manifest_of
from mergecore.output.target import absolute, allocated
from mergecore.types import Plan


def folder_for(target: Path, chosen: Path | None) -> Path:
    """Where the intermediate results of an output lie, unless another folder was `chosen`: beside it."""
    if chosen is not None:
        return chosen
    beside = target if target.name not in ("", "..") else target.resolve()
    return beside.with_name(f"{beside.name}.parts")


def check_room(plan: Plan, target: Path, folder: Path) -> None:
    """Refuse to begin where a disk is too small for all that is to be written; results that are there need none.

    Raises:
        OutputError: E503.
    """
    needs = {folder / one.name: one.plan.layout.size for one in plan.earlier}
    needs = {path: size for path, size in needs.items() if manifest_of(path) is None}
    wanted = {**needs, target: plan.layout.size if manifest_of(target) is None else 0}
    free: dict[int, int] = {}
    taken: dict[int, int] = {}
    for path, size in wanted.items():
        parent = next(one for one in absolute(path).parents if one.exists())
        status = os.statvfs(parent)
        disk = parent.stat().st_dev
        if not status.f_blocks:
            continue  # some network file systems do not know
        free.setdefault(disk, status.f_bavail * status.f_frsize)
        taken[disk] = taken.get(disk, 0) + size - allocated(absolute(path))
        if taken[disk] > free[disk]:
            of_parts = f", {size_text(sum(needs.values()))} of them for intermediate results" if needs else ""
            what = f"the weights need {size_text(sum(wanted.values()))}{of_parts}; "
            what += f"the disk has {size_text(free[disk])} free"
            hint = "free some space, or choose another disk for these by --intermediate DIR"
            raise OutputError("E503", what, place=str(path), hint=hint)


def check_may_replace(folder: Path, error: MergecoreError) -> str:
    """Why an intermediate result is made again, of which `error` says that it is another one, or damaged.

    Raises:
        OutputError: the error, where the folder is no intermediate result.
    """
    if error.code not in ("E501", "E508") or not is_made(folder):
        raise error
    first = error.first if isinstance(error, Problems) else error
    why = first.what.removeprefix("the output folder is not empty: ")
    return f"{folder} is made again: {why}"


def is_made(folder: Path) -> bool:
    """Whether a folder holds an intermediate result."""
    found = manifest_of(folder)
    return found is not None and bool((found.model_extra or {}).get("intermediate"))


def content_of(folder: Path) -> str:
    """What identifies all that an intermediate result consists of, by the digests of its manifest: its revision."""
    manifest = read_manifest(folder)
    tensors = {name: (one.dtype, one.shape, one.digest) for name, one in manifest.tensors.items()}
    files = {one.name: one.sha256 for one in manifest.files if one.sha256}
    return MADE + hashlib.sha256(json.dumps([tensors, files], sort_keys=True).encode()).hexdigest()


def remove(folder: Path, names: Sequence[str]) -> None:
    """Remove the intermediate results of these names, and the folder where nothing else is in it.

    Only what their manifests list is removed: what somebody put beside it stays.
    """
    with durable.telling(folder, "removing intermediate results"):
        for name in names:
            if (found := manifest_of(folder / name)) is not None and is_made(folder / name):
                _remove_files(folder / name, [*(one.name for one in found.files), MANIFEST])
        for path in (*(folder / name for name in names), folder):
            if path.is_dir() and not path.is_symlink() and not any(path.iterdir()):
                path.rmdir()


def _remove_files(path: Path, names: Sequence[str]) -> None:
    """Remove files of a folder, and the folders in it that are empty then."""
    folder = Folder.at(path)
    try:
        for name in names:
            *folders, last = name.split("/")
            with opened_below(folder, folders) as inside:
                inside.remove(last)
    finally:
        folder.close()
    inner = {(path / name).parent for name in names} - {path}
    for one in sorted(inner, key=lambda one: -len(one.parts)):
        if one.is_dir() and not any(one.iterdir()):
            one.rmdir()
