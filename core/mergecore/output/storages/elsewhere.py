"""The output as another process writes it: tensors in their places, nothing else; read `Elsewhere.open`."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mergecore.errors import OutputError, PluginError
from mergecore.files import durable
from mergecore.files.folders import Folder
from mergecore.types import Layout, Written
from mergecore.types.outputs import Slot


@dataclass(frozen=True)
class Elsewhere:
    """Where the files of an output are while it is made, for a process that did not begin it.  Can be pickled."""

    layout: Layout
    folder: Path
    identity: tuple[int, int]
    """Device and inode of the folder: what is there now must be the folder of this output."""

    @contextmanager
    def open(self) -> Iterator[Places]:
        """The places, ready to be written.

        Raises:
            OutputError: E505 when the folder is not there any more.
        """
        try:
            folder = Folder.at(self.folder)
        except OSError as error:
            raise OutputError(
                "E505", f"cannot be opened: {error.strerror}", place=str(self.folder)
            ) from error
        try:
            found = Folder(folder.descriptor, folder.path, os.fstat(folder.descriptor).st_uid)
            if identity_of(found) != self.identity:
                raise OutputError(
                    "E505", "another folder has taken the place of the output", place=str(self.folder)
                )
            with Places(self.layout, found) as places:
                yield places
        finally:
            folder.close()


class Places:
    """Tensors in their places; a single thread writes one after the other."""

    def __init__(self, layout: Layout, folder: Folder) -> None:
        self._layout, self._folder = layout, folder
        self._file, self._descriptor = -1, -1

    def write(self, name: str, start: int, data: memoryview | bytes | bytearray) -> None:
        """Keep `data`, the bytes of tensor `name` from byte `start` on.

        Raises:
            OutputError: E504 when the disk fails.
            PluginError: E402 when the bytes do not fit the tensor.
        """
        slot = self._layout.slots[name]
        view = checked(slot, name, start, data)
        if view.nbytes:
            with durable.telling(self._folder.path, "writing"):
                durable.write_at(self._of(slot), view, slot.offset + start)

    def read(self, name: str, start: int, into: memoryview) -> None:
        """Fill `into` with bytes of tensor `name` that were written before, from byte `start` on."""
        slot = self._layout.slots[name]
        view = into.cast("B")
        with durable.telling(self._folder.path, "reading back"):
            if view.nbytes and durable.read_at(self._of(slot), view, slot.offset + start) < len(view):
                raise OSError(errno.EIO, "the file became shorter")

    def __enter__(self) -> Places:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def _of(self, slot: Slot) -> int:
        """The open file that holds a slot; only the last one stays open."""
        if slot.file != self._file:
            self._close()
            self._descriptor = self._folder.open(self._layout.files[slot.file].name, os.O_RDWR)
            self._file = slot.file
        return self._descriptor

    def _close(self) -> None:
        if self._file >= 0:
            os.close(self._descriptor)
            self._file = -1


def identity_of(folder: Folder) -> tuple[int, int]:
    """Device and inode."""
    status = os.fstat(folder.descriptor)
    return status.st_dev, status.st_ino


def check_whole(written: Written, nbytes: int) -> None:
    """Refuse a tensor of `nbytes` of which bytes are missing.

    Raises:
        PluginError: E402.
    """
    if written.nbytes != nbytes:
        what = f"{written.nbytes} bytes of tensor '{written.name}' were written, it has {nbytes}"
        raise PluginError("E402", what, tensor=written.name)


def checked(slot: Slot, name: str, start: int, data: memoryview | bytes | bytearray) -> memoryview:
    """The bytes to write, if they fit the tensor.

    Raises:
        PluginError: E402 when they do not.
    """
    view = memoryview(data)
    if not 0 <= start <= start + view.nbytes <= slot.nbytes:
        what = f"tensor '{name}' has {slot.nbytes} bytes; {view.nbytes} were written at byte {start}"
        raise PluginError("E402", what, tensor=name)
    return view.cast("B") if view.nbytes else view
