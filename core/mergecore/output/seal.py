"""Completes a staged model: side files, a look at every header, and the manifest that says all is there.

`seal` may be repeated after an interruption at any point of it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

from mergecore.errors import PluginError
from mergecore.files.folders import Folder, opened_below
from mergecore.files.safe_open import open_regular
from mergecore.models.module_folders import is_beside, is_inside
from mergecore.output import manifest
from mergecore.output.inputs import changed
from mergecore.output.journal import Record
from mergecore.output.manifest import Manifest, WrittenFile
from mergecore.output.resume import Output
from mergecore.output.verify import check_weight_files, raise_all
from mergecore.planning.toolkit import checked_side_files
from mergecore.types import Json, Layout

_CHUNK = 2**20


def seal(
    output: Output,
    records: Mapping[str, Record],
    side_files: Mapping[str, Path | bytes],
    facts: Mapping[str, Json],
    digests: Mapping[str, str],
    check: Callable[[], None],
) -> None:
    """Make the staged folder complete; the weights are there and durable.

    digests: SHA-256 of side files as they were checked; `check` is called just before the model counts as
        complete.

    Raises:
        InputError: E235 when a side file is not the one that was checked.
        OutputError: E508 when a file of weights is not what the plan says.
        PluginError: E402 when a side file would take the place of another file.
        PolicyError: E301 when the name of a side file leads out of the folder.
    """
    places, layout = output.places, output.layout
    _remove_leftovers(places.model, layout)
    beside = _write_side_files(places.model, checked_side_files(layout, side_files), digests)
    written = [*_weight_files(layout), *beside]
    tensors = list(output.tensors.values())
    whole = manifest.complete(facts, output.fingerprint, layout, tensors, records, written)
    raise_all(check_weight_files(places.model.path, Manifest.model_validate(whole), output.read))
    places.model.replace(manifest.NAME, manifest.as_bytes(whole), check)


def check_names(layout: Layout) -> None:
    """Refuse a layout with files that do not lie side by side in one folder.

    Raises:
        PluginError: E402.
    """
    names = [file.name for file in layout.files] + list(layout.index_files)
    for name in names:
        if not is_inside(name) or not is_beside(name) or names.count(name) > 1 or name == manifest.NAME:
            raise PluginError(
                "E402", f"the output writer cannot lay out a file '{name}'", hint="report it to its authors"
            )


def _remove_leftovers(model: Folder, layout: Layout) -> None:
    """Remove what an interrupted sealing left: only what is written now may be published."""
    _remove_all_but(model, [file.name.split("/") for file in layout.files])


def _remove_all_but(folder: Folder, kept: Sequence[Sequence[str]]) -> None:
    for name in folder.names():
        inside = [parts[1:] for parts in kept if parts[0] == name]
        if folder.has_folder(name):
            if any(inside):
                with opened_below(folder, [name]) as inner:
                    _remove_all_but(inner, inside)
            else:
                folder.remove_tree(name)
        elif not inside:
            folder.remove(name)


def _weight_files(layout: Layout) -> list[WrittenFile]:
    return [
        WrittenFile(
            name=file.name,
            size=file.size,
            header_bytes=len(file.header),
            header_sha256=hashlib.sha256(file.header).hexdigest(),
        )
        for file in layout.files
    ]


def _write_side_files(
    model: Folder, files: Mapping[str, Path | bytes], digests: Mapping[str, str]
) -> list[WrittenFile]:
    written = []
    folders: set[PurePosixPath] = set()
    for name, content in files.items():
        path = PurePosixPath(name)
        folders |= {*path.parents}
        copy = _Copy(content)
        with opened_below(model, path.parent.parts) as folder:
            folder.write(path.name, copy.chunks())
        digest = copy.sha256.hexdigest()
        if digest != digests.get(name, digest):
            raise changed(str(content) if isinstance(content, Path) else name)
        written.append(WrittenFile(name=name, size=copy.size, sha256=digest))
    for path in sorted(folders, reverse=True):
        with opened_below(model, path.parts) as folder:
            folder.sync()
    return written


class _Copy:
    """The bytes of a side file on their way out, with their number and digest."""

    def __init__(self, content: Path | bytes) -> None:
        self._content = content
        self.size = 0
        self.sha256 = hashlib.sha256()

    def chunks(self) -> Iterator[bytes]:
        content = self._content
        for chunk in [content] if isinstance(content, bytes) else _read(content):
            self.size += len(chunk)
            self.sha256.update(chunk)
            yield chunk


def _read(path: Path) -> Iterator[bytes]:
    """The bytes of a side file, which is reached through no link."""
    with open_regular(path, str(path)) as (read, status):
        for start in range(0, status.st_size, _CHUNK):
            yield read(start, min(_CHUNK, status.st_size - start))
