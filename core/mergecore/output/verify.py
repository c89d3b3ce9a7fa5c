"""Reads a finished model back and compares it with its manifest: files, headers, every byte.

`verify_folder` does all; `check_weight_files` is the part of it that reads no weights.  What a file says about its
tensors is read by the output writer that made it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from mergecore.errors import MergecoreError, OutputError, PluginError, Problems
from mergecore.files.paths import path_of
from mergecore.models.module_folders import name_in_file
from mergecore.output.digests import block_bytes, digest_of_file_span
from mergecore.output.manifest import NAME as MANIFEST
from mergecore.output.manifest import Manifest, WrittenFile, WrittenTensor, read_manifest
from mergecore.plugins.registry import Registry
from mergecore.types import OutputWriter, Stored

Read: TypeAlias = Callable[[Path], Sequence[Stored]]

_THREADS = 2
_ENOUGH = 20
_INDEX = ".index.json"
_LOADED = ".safetensors"
"""What loaders take first, whatever else is there."""


@dataclass(frozen=True)
class VerifyReport:
    """What was read and is as it was written.

    unlisted: files that are in the folder but not in the manifest.
    unread: why the files were not read as their format, but only byte by byte; empty where they were.
    """

    files: int
    tensors: int
    nbytes: int
    unlisted: tuple[str, ...]
    unread: str = ""


def verify_folder(folder: Path | str, registry: Registry | None = None) -> VerifyReport:
    """Read every byte of a finished model.

    registry: the plugins to read files with; None for all that are installed.

    Raises:
        OutputError: E508 for each difference from the manifest; several as `Problems`.
    """
    folder = path_of(folder, "the folder")
    manifest = read_manifest(folder)
    read, unread = _reader(manifest.writer, registry)
    further = unlisted(folder, manifest)
    errors = [
        OutputError(
            "E508", "not in the manifest, and may be loaded instead of the model", place=str(folder / name)
        )
        for name in further
        if name.removesuffix(_INDEX).endswith(_endings(manifest))
    ]
    damaged = list(check_weight_files(folder, manifest, read))
    places = {error.place for error in damaged}
    readable = {name: one for name, one in manifest.tensors.items() if str(folder / one.file) not in places}
    raise_all([*errors, *damaged, *_check_bytes(folder, readable, manifest.files)])
    return VerifyReport(
        len(manifest.files), len(manifest.tensors), sum(file.size for file in manifest.files), further, unread
    )


def _reader(writer: str | None, registry: Registry | None) -> tuple[Read | None, str]:
    """What reads files of weights as the writer does that made them; or why nothing does."""
    if writer is None:
        return None, "the manifest does not name the output writer"
    registry = registry or Registry.discover()
    try:
        read = reader_of(registry, writer)
    except MergecoreError as error:
        return None, f"the output writer '{writer}' is missing: {error.what}"
    return read, "" if read else f"the output writer '{writer}' reads no files"


def reader_of(registry: Registry, writer: str) -> Read | None:
    """What reads a file of weights as the output writer of that name does; None where it cannot.

    Raises:
        MergecoreError: E108, E606 or E607 when no plugin provides the writer.
    """
    chosen: OutputWriter[Any] = registry.get(OutputWriter, writer)
    read = chosen.read
    if read is None:
        return None

    def guarded(path: Path) -> Sequence[Stored]:
        with registry.calling(OutputWriter, chosen.name):
            found: Sequence[object] = list(read(path))
        for wrong in [one for one in found if not isinstance(one, Stored)]:
            what = f"output writer '{chosen.name}' reads {type(wrong).__name__} in place of Stored"
            raise PluginError("E605", what)
        return [one for one in found if isinstance(one, Stored)]

    return guarded


def _endings(manifest: Manifest) -> tuple[str, ...]:
    """How the names of files end that may be taken for weights of the model."""
    own = [Path(file.name).suffix for file in manifest.files if file.header_sha256 is not None]
    return tuple(dict.fromkeys([_LOADED, *filter(None, own)]))


def check_files(folder: Path, manifest: Manifest, suspects: Collection[str]) -> Iterator[OutputError]:
    """What is wrong with sizes, headers and side files, and with the tensors in the files of `suspects`."""
    damaged = list(check_weight_files(folder, manifest))
    yield from damaged
    places = {error.place for error in damaged}
    tensors = {
        name: one
        for name, one in manifest.tensors.items()
        if one.file in suspects and str(folder / one.file) not in places
    }
    yield from _check_bytes(folder, tensors, manifest.files)


def check_weight_files(folder: Path, manifest: Manifest, read: Read | None = None) -> Iterator[OutputError]:
    """What is wrong with the sizes and headers of the files of weights.

    read: reads what a file says about its tensors, which is then compared too, not only the digest of its header.
    """
    tensors: dict[str, dict[str, WrittenTensor]] = {file.name: {} for file in manifest.files}
    for name, tensor in manifest.tensors.items():
        tensors.setdefault(tensor.file, {})[name] = tensor
    listed = {file.name for file in manifest.files}
    for name in tensors:
        if name not in listed:
            yield _error(folder, name, "the manifest has tensors in this file but does not list it")
    for file in manifest.files:
        if file.header_sha256 is not None:
            yield from _check_weights(folder, file, tensors[file.name], read)


def raise_all(errors: Iterable[OutputError]) -> None:
    """Raise `errors` together, the first twenty of them in full."""
    found = list(errors)
    rest = len(found) - _ENOUGH
    if rest > 0:
        found[_ENOUGH:] = [OutputError("E508", f"{rest} further differences")]
    if len(found) == 1:
        raise found[0]
    if found:
        raise Problems(found)


def _check_bytes(
    folder: Path, tensors: Mapping[str, WrittenTensor], files: Iterable[WrittenFile]
) -> list[OutputError]:
    with ThreadPoolExecutor(_THREADS) as pool:
        wrong_tensors = pool.map(lambda item: _check_tensor(folder, *item), tensors.items())
        wrong_files = pool.map(lambda file: _check_side_file(folder, file), files)
        return [error for error in (*wrong_tensors, *wrong_files) if error]


def _error(folder: Path, name: str, what: str, tensor: str | None = None) -> OutputError:
    hint = "copy the model again, or merge it again with --overwrite"
    return OutputError("E508", what, place=str(folder / name), tensor=tensor, hint=hint)


def unlisted(folder: Path, manifest: Manifest) -> tuple[str, ...]:
    """The files in a folder that are not in its manifest."""
    listed = {MANIFEST, *(file.name for file in manifest.files)}
    found = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir())
    return tuple(sorted(name for name in found if name not in listed))


def _check_size(folder: Path, file: WrittenFile) -> OutputError | None:
    path = folder / file.name
    if not path.is_file():
        return _error(folder, file.name, "missing")
    size = path.stat().st_size
    return None if size == file.size else _error(folder, file.name, f"has {size} bytes, not {file.size}")


def _check_weights(
    folder: Path, file: WrittenFile, tensors: Mapping[str, WrittenTensor], read: Read | None
) -> Iterator[OutputError]:
    if wrong := _check_size(folder, file):
        yield wrong
        return
    differences = []
    if read:
        differences = list(_check_header(folder, file, tensors, read))
        yield from differences
    with (folder / file.name).open("rb") as stream:
        header = stream.read(file.header_bytes or 0)
    if not differences and hashlib.sha256(header).hexdigest() != file.header_sha256:
        yield _error(folder, file.name, "the header differs from the manifest")


def _check_header(
    folder: Path, file: WrittenFile, tensors: Mapping[str, WrittenTensor], read: Read
) -> Iterator[OutputError]:
    try:
        found = read(folder / file.name)
    except PluginError:
        raise
    except MergecoreError as error:
        first = error.first if isinstance(error, Problems) else error
        yield _error(folder, file.name, f"the header is damaged: {first.what}")
        return
    in_header = {one.name: f"{one.dtype} {list(one.shape)} at byte {one.offset}" for one in found}
    in_manifest = {
        name_in_file(name): f"{one.encoding or one.dtype} {list(one.shape)} at byte {one.offset}"
        for name, one in tensors.items()
    }
    for name in {**in_manifest, **in_header}:
        here, there = in_header.get(name, "absent"), in_manifest.get(name, "absent")
        if here != there:
            what = f"tensor '{name}' is {here} in the header, {there} in the manifest"
            yield _error(folder, file.name, what, name)


def _check_tensor(folder: Path, name: str, tensor: WrittenTensor) -> OutputError | None:
    try:
        file = os.open(folder / tensor.file, os.O_RDONLY)
        try:
            size = block_bytes(tensor.dtype, tensor.shape, tensor.nbytes, encoded=tensor.encoding is not None)
            digest = digest_of_file_span(file, tensor.offset, tensor.nbytes, size)
        finally:
            os.close(file)
    except OSError as error:
        return _error(folder, tensor.file, f"tensor '{name}' cannot be read: {error.strerror}", name)
    if digest == tensor.digest:
        return None
    return _error(
        folder, tensor.file, f"tensor '{name}' is damaged: its digest is {digest}, not {tensor.digest}", name
    )


def _check_side_file(folder: Path, file: WrittenFile) -> OutputError | None:
    if file.header_sha256 is not None:
        return None
    if wrong := _check_size(folder, file):
        return wrong
    try:
        with (folder / file.name).open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        return _error(folder, file.name, f"cannot be read: {error.strerror}")
    return (
        None
        if digest == file.sha256
        else _error(folder, file.name, f"its SHA-256 is {digest}, not {file.sha256}")
    )
