"""The folder of a model, each of whose files is opened without leaving it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from mergecore.errors import InputError, PolicyError, class_of
from mergecore.files.safe_open import ReadAt, open_regular, resolved, stamp_of, unreadable


@dataclass(frozen=True)
class RemoteFile:
    """A file that is not on this machine yet: its size, and a way to read parts of it."""

    size: int
    read: ReadAt


@dataclass(frozen=True)
class InputFolder:
    """The folder of a model: the names in it, and the places to which its symbolic links may lead."""

    path: Path
    shown: str
    """The folder as the user writes it, for messages."""
    names: frozenset[str]
    """Of the files in it and of those that will come; of sub-folders, too."""
    roots: tuple[Path, ...]
    remote: Mapping[str, RemoteFile] = field(default_factory=dict)

    def place(self, name: str) -> str:
        """`name` as messages show it."""
        return f"{self.shown}/{name}"

    def locate(self, name: str) -> Path:
        """The real path of a file.

        Raises:
            MergecoreError: E236 when it is not there or cannot be followed, E302 when links lead outside.
        """
        return resolved(self.path / name, self.place(name), self.roots)

    @contextmanager
    def open(self, name: str) -> Iterator[tuple[ReadAt, int, tuple[int, ...]]]:
        """A way to read parts of a file, its size, and its stamp, `WeightFile.stamp`.

        Raises:
            MergecoreError: E236, E302 or E309.
        """
        with open_regular(self.locate(name), self.place(name)) as (read, status):
            yield read, status.st_size, stamp_of(status)

    def read(self, name: str, *, code: str, max_bytes: int) -> bytes:
        """The whole of a small file.

        Raises:
            MergecoreError: `code` when it is missing, E236, E302, E308 or E309.
        """
        if not os.path.lexists(self.path / name):
            raise class_of(code)(code, "missing", place=self.place(name))
        with open_regular(self.locate(name), self.place(name)) as (read, status):
            if status.st_size > max_bytes:
                what = f"the file has {status.st_size} bytes, limit {max_bytes}"
                raise PolicyError("E308", what, place=self.place(name))
            return read(0, status.st_size)


def list_folder(
    path: Path, shown: str, allowed_root: Path | None = None, remote: Mapping[str, RemoteFile] | None = None
) -> InputFolder:
    """The folder at `path`, listed; links may lead into `allowed_root` and within the cache of a hub.

    Raises:
        InputError: E701 when there is no such folder, E236 when it cannot be listed.
    """
    try:
        names = [file.name for file in path.iterdir()]
        real = Path(os.path.realpath(path, strict=True))
    except FileNotFoundError:
        raise InputError("E701", f"'{shown}': no such directory") from None
    except NotADirectoryError:
        raise InputError("E701", f"'{shown}': not a directory") from None
    except OSError as error:
        raise unreadable(error, shown) from None
    further = [Path(os.path.realpath(allowed_root))] if allowed_root else []
    return InputFolder(
        path=path.absolute(),
        shown=shown,
        names=frozenset(names) | frozenset(remote or ()),
        roots=(real, *further, *_blob_folders(real)),
        remote=remote or {},
    )


def _blob_folders(real: Path) -> tuple[Path, ...]:
    """Where the files of a snapshot in a hub cache really are: blobs of its repository or shared ones."""
    repository = real.parent.parent
    if real.parent.name == "snapshots" and repository.name.startswith("models--"):
        return (repository / "blobs", repository.parent / "blobs")
    return ()
