"""The checks of an output folder that a plan makes before anything is written.

`check_target` is the whole of it; `holds_result` says whether the folder already is what the plan would make.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from mergecore.errors import OutputError, some
from mergecore.files import durable
from mergecore.files.sizes import size_text
from mergecore.output import comparing
from mergecore.output.inputs import InputFile, written_since
from mergecore.output.manifest import NAME as MANIFEST
from mergecore.output.manifest import read_manifest
from mergecore.output.replacing import foreign_weights, manifest_of
from mergecore.output.resume import fingerprint
from mergecore.output.staging import MODEL, Staging
from mergecore.output.verify import check_files, raise_all
from mergecore.types import Json


def check_target(
    target: Path,
    inputs: Sequence[Path],
    overwrite: bool,
    *,
    nbytes: int = 0,
    plan: Mapping[str, Json] | None = None,
) -> None:
    """Refuse a target that cannot or must not be written; `nbytes` is what the weights will take.

    A folder that holds the finished result of this `plan`, as `described`, is welcome.

    Raises:
        OutputError: E501 it exists, E502 it is an input, E503 the disk is too small, E505 no permission,
            E510 its name is too long, or that of a file.
    """
    path = absolute(target)
    _check_name(target, path)
    if path.is_symlink():
        raise _error(
            "E501", target, "the output folder is a symbolic link", "give the folder it should point to"
        )
    _check_inputs(target, path, inputs)
    if path.exists() and not path.is_dir():
        raise _error(
            "E501", target, "the output exists and is not a directory", "choose another output folder"
        )
    if path.is_dir() and _check_folder(target, path, overwrite, plan) and not overwrite:
        return  # nothing will be written
    _check_disk(target, path, nbytes)


def _check_name(target: Path, path: Path) -> None:
    try:
        os.lstat(path)
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            longest = max(path.parts, key=lambda name: len(os.fsencode(name)))
            what = (
                f"the name of the output folder is too long for this disk ({len(os.fsencode(longest))} bytes)"
            )
            raise _error("E510", target, what, "choose a shorter name; most disks take 255 bytes") from None
    if path.suffix in _OF_FILES and not path.exists():
        folder = target.with_suffix("")
        what = "the output is a folder, and this is the name of a file"
        hint = (
            f"write {folder}: the weights are then in {folder}/model.safetensors, or in NAME.safetensors with "
            "'output: {stem: NAME}' in the config"
        )
        raise _error("E510", target, what, hint)


_OF_FILES = (".safetensors", ".sft", ".bin", ".pt", ".pth", ".ckpt", ".gguf")


def absolute(target: Path) -> Path:
    """`target` from the root on, without following links."""
    return Path(os.path.abspath(target))  # noqa: PTH100 - Path.resolve() would follow them


def holds_result(target: Path, fingerprint: str) -> bool:
    """Whether `target` is the result of this plan, as its manifest says."""
    manifest = manifest_of(target)
    return manifest is not None and manifest.fingerprint == fingerprint


def check_result(target: Path, inputs: Sequence[InputFile]) -> str:
    """What was compared to say that the result in `target` is whole, and that of `inputs` as they are.

    Sizes and headers of all files and the digests of the small ones; weights are read only where they were
    written to after the manifest.

    Raises:
        OutputError: E508 when the result is damaged; E501 when a file of the inputs was written to since.
    """
    manifest = read_manifest(target)
    made = (target / MANIFEST).stat()
    suspects = [file.name for file in manifest.files if _is_suspect(target / file.name, made)]
    raise_all(check_files(target, manifest, suspects))
    weights = [file for file in inputs if file.weights]  # the digests of the others are those of the plan
    if later := written_since(made.st_mtime_ns, weights):
        what = f"it holds this merge, but {some(later, 1, mark='')} was written to, replaced or moved after it was made"
        raise _error("E501", target, what, "--overwrite to make it again, or choose another output folder")
    here = sum(bool(file.state) for file in weights)
    return (
        f"config, seed, versions and {len(inputs) - len(weights)} side files of the models are those of its manifest; "
        f"{here} files of weights have not been written to since; its {len(manifest.files)} files have the sizes, "
        "headers and digests they were made with"
    )


def _is_suspect(path: Path, made: os.stat_result) -> bool:
    """Whether a file may have been written to after the manifest."""
    try:
        status = path.lstat()
    except OSError:
        return False
    return max(status.st_mtime_ns, status.st_ctime_ns) > made.st_ctime_ns


def _error(code: str, target: Path, what: str, hint: str) -> OutputError:
    return OutputError(code, what, place=str(target), hint=hint)


def _check_inputs(target: Path, path: Path, inputs: Sequence[Path]) -> None:
    real = path.resolve()
    for one in inputs:
        model = one.resolve()
        hint = "choose another output folder"
        name = model if one == Path() else one
        if real == model:
            raise _error("E502", target, f"the output folder is the input model {name}", hint)
        if real.is_relative_to(model):
            raise _error("E502", target, f"the output folder is inside the input model {name}", hint)
        if model.is_relative_to(real):
            raise _error("E502", target, f"the output folder contains the input model {name}", hint)


def _check_folder(target: Path, path: Path, overwrite: bool, plan: Mapping[str, Json] | None) -> bool:
    """Whether a folder that is there holds the result of this plan; raises where it must not be written."""
    if path.is_mount():
        what = "the output folder is a mount point and cannot be replaced in one step"
        raise _error("E505", target, what, f"choose a folder inside it, such as {target / 'merged'}")
    if not path.name or _is_working_folder(path):
        what = "the output folder is the current folder and cannot be replaced in one step"
        raise _error("E505", target, what, "choose a folder inside it")
    with durable.telling(target, "reading the output folder"):
        empty = not any(path.iterdir())
        found = manifest_of(path)
        if overwrite and found:
            _check_strangers(target, path)
    ours = found is not None and plan is not None and found.fingerprint == fingerprint(plan)
    if empty or ours or (overwrite and found):
        return ours
    if overwrite:
        there = os.path.lexists(path / MANIFEST)
        what = (
            f"the {MANIFEST} in it is not that of a merge"
            if there
            else f"the output folder holds no {MANIFEST}"
        )
        what += ": --overwrite replaces finished merges only"
        raise _error("E501", target, what, "choose another output folder")
    if found:
        what = "the output folder is not empty: it holds another merge"
        named = comparing.told(found.model_extra, plan) if plan is not None else ""
        what += f", which differs in {named}" if named else ""
        raise _error("E501", target, what, "choose another output folder, or --overwrite to replace it")
    what = "the output folder is not empty"
    raise _error(
        "E501", target, what, "choose another output folder (--overwrite replaces finished merges only)"
    )


def _is_working_folder(path: Path) -> bool:
    try:
        return path == Path.cwd()
    except FileNotFoundError:  # it was deleted
        return False


def _check_strangers(target: Path, path: Path) -> None:
    if names := foreign_weights(path):
        what = f"the output folder holds weights that its merge did not write: {some(names, 3, mark='')}"
        raise _error("E501", target, what, "move them away, or choose another output folder")


def _check_disk(target: Path, path: Path, nbytes: int) -> None:
    parent = next(folder for folder in path.parents if folder.exists())
    if not parent.is_dir():
        raise _error("E505", target, f"{parent} is not a directory", "choose another output folder")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise _error(
            "E505", target, f"no permission to write in {parent}", "choose a folder you may write to"
        )
    status = os.statvfs(parent)
    free = status.f_bavail * status.f_frsize + allocated(path)
    if status.f_blocks and nbytes > free:  # some network file systems do not know
        what = f"the weights need {size_text(nbytes)}, the disk has {size_text(free)} free"
        raise _error("E503", target, what, "free some space or choose an output folder on another disk")


def allocated(path: Path) -> int:
    """Bytes that an earlier run has reserved already for the output at an absolute path."""
    folder = Staging(path).path / MODEL
    if not folder.is_dir():
        return 0
    return sum(
        entry.stat().st_blocks * 512 for entry in os.scandir(folder) if entry.is_file(follow_symlinks=False)
    )
