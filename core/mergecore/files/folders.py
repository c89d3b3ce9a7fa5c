"""Folders that are held open: what is below them is reached by descriptor, and through no link.

A staging folder may lie where others can write.  Whoever holds a `Folder` reads and writes what is in it and
nothing else: a link, a pipe or a second name of some other file is refused with E509, never followed.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from mergecore.errors import OutputError
from mergecore.files import durable

STAGING = ".mergecore-partial"
"""How the name of a staging folder ends."""
_CAREFULLY = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NO_FOLDER = (errno.ENOTDIR, errno.ELOOP)


@dataclass(frozen=True)
class Folder:
    """An open folder; `path` is where it was opened, for messages.

    owner: whom everything in it must belong to, under one name only; None where that does not matter.
    """

    descriptor: int
    path: Path
    owner: int | None = None

    @classmethod
    def at(cls, path: Path) -> Folder:
        """The folder at `path`, to which links may lead."""
        return cls(os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC), path)

    def close(self) -> None:
        """Let go."""
        os.close(self.descriptor)

    # -- names -------------------------------------------------------------------------------------------

    def names(self) -> list[str]:
        """What is in it, sorted."""
        return sorted(os.listdir(self.descriptor))  # noqa: PTH208 - a path cannot be a descriptor

    def status(self, name: str) -> os.stat_result | None:
        """Of what is called so, which may be a link; None where there is nothing."""
        if "/" in name:
            inner, _, rest = name.partition("/")
            if not self.has_folder(inner):
                return None
            with opened_below(self, [inner]) as folder:
                return folder.status(rest)
        try:
            return os.stat(name, dir_fd=self.descriptor, follow_symlinks=False)
        except FileNotFoundError:
            return None

    def has_folder(self, name: str) -> bool:
        """Whether there is a folder of that name."""
        status = self.status(name)
        return status is not None and stat.S_ISDIR(status.st_mode)

    def rename(self, name: str, folder: Folder, other: str) -> None:
        """Move what is called `name` into a folder, under another name; an empty folder there is replaced."""
        os.rename(name, other, src_dir_fd=self.descriptor, dst_dir_fd=folder.descriptor)

    def exchange(self, name: str, folder: Folder, other: str) -> bool:
        """Swap two names in one step; False where the system cannot, and nothing has changed."""
        return durable.exchange((self.descriptor, name), (folder.descriptor, other))

    def remove(self, name: str) -> None:
        """Remove a name that is not a folder, if it is there; a link is removed, not what it leads to."""
        if self.status(name) is not None:
            os.unlink(name, dir_fd=self.descriptor)

    def remove_folder(self, name: str) -> None:
        """Remove an empty folder; one that is gone or not empty is not an error."""
        try:
            os.rmdir(name, dir_fd=self.descriptor)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT):
                raise

    def remove_tree(self, name: str) -> None:
        """Remove a folder with all in it, if it is there.

        Raises:
            OutputError: E509 when it is not a folder.
        """
        if (status := self.status(name)) is None:
            return
        if not stat.S_ISDIR(status.st_mode):
            raise planted(self.path / name, "no folder")
        shutil.rmtree(name, dir_fd=self.descriptor)

    def sync(self) -> None:
        """Make the names in it durable, on file systems that know how."""
        durable.sync_names(self.descriptor)

    # -- folders in it -----------------------------------------------------------------------------------

    def make(self, name: str, mode: int = 0o777) -> None:
        """Make a folder in it, unless the name is taken."""
        with suppress(FileExistsError):
            os.mkdir(name, mode, dir_fd=self.descriptor)

    def folder(self, name: str) -> Folder:
        """A folder in it, opened.

        Raises:
            OutputError: E509 when it is a link or no folder, or belongs to somebody else.
        """
        try:
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
            file = os.open(name, flags, dir_fd=self.descriptor)
        except OSError as error:
            if error.errno in _NO_FOLDER:
                raise planted(self.path / name, _kind(self.status(name))) from None
            raise
        self._refuse(name, self._stranger(os.fstat(file)), file)
        return Folder(file, self.path / name, self.owner)

    # -- files in it -------------------------------------------------------------------------------------

    def open(self, name: str, flags: int) -> int:
        """A file in it, or in a folder in it, opened; made, with the folder, if `flags` say so.

        Raises:
            OutputError: E509 when it is not a regular file, has a second name, or belongs to somebody else.
        """
        if "/" in name:
            inner, _, rest = name.partition("/")
            if not flags & os.O_CREAT and not self.has_folder(inner):
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self.path / name))
            with opened_below(self, [inner]) as folder:
                return folder.open(rest, flags)
        try:
            file = os.open(name, flags | _CAREFULLY, 0o666, dir_fd=self.descriptor)
        except OSError:
            if fault := self._fault(self.status(name)):
                raise planted(self.path / name, fault) from None
            raise
        self._refuse(name, self._fault(os.fstat(file)), file)
        return file

    def read(self, name: str) -> bytes | None:
        """The whole of a file in it; None where there is none.  Raises as `open` does."""
        try:
            file = self.open(name, os.O_RDONLY)
        except FileNotFoundError:
            return None
        try:
            data = bytearray(os.fstat(file).st_size)
            return bytes(data[: durable.read_at(file, memoryview(data), 0)])
        finally:
            os.close(file)

    def write(self, name: str, chunks: Iterable[bytes]) -> None:
        """Write a whole file, new, durably but for its name: that needs `sync`."""
        self.remove(name)
        file = self.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        try:
            durable.write_all(file, chunks)
        finally:
            os.close(file)

    def replace(self, name: str, data: bytes, check: Callable[[], None] | None = None) -> None:
        """Make a file hold `data`, durably, or leave it as it was, as it also is when `check` raises."""
        scratch = f"{name}.tmp"
        self.write(scratch, [data])
        if check:
            check()
        self.rename(scratch, self, name)
        self.sync()

    def sync_file(self, name: str) -> None:
        """Make what a file holds durable."""
        file = self.open(name, os.O_RDWR)
        try:
            durable.sync(file)
        finally:
            os.close(file)

    def check_names(self, files: Sequence[str], folders: Sequence[str] = ()) -> None:
        """Raise E509 for what is none of these."""
        for name in self.names():
            if name in folders:
                self.folder(name).close()
            elif name not in files:
                raise planted(self.path / name, "not part of a merge")
            elif fault := self._fault(self.status(name)):
                raise planted(self.path / name, fault)

    def _refuse(self, name: str, fault: str, file: int) -> None:
        if fault:
            os.close(file)
            raise planted(self.path / name, fault)

    def _fault(self, status: os.stat_result | None) -> str:
        """What keeps a file from being used, or nothing."""
        if status is not None and not stat.S_ISREG(status.st_mode):
            return _kind(status)
        if status is not None and self.owner is not None and status.st_nlink > 1:
            return "a file with a second name elsewhere, a hard link"
        return self._stranger(status)

    def _stranger(self, status: os.stat_result | None) -> str:
        if status is None or self.owner in (None, status.st_uid):
            return ""
        return f"of user {status.st_uid}"


@contextmanager
def opened_below(folder: Folder, names: Sequence[str]) -> Iterator[Folder]:
    """The folder at the end of `names`, each in the one before; what is missing is made."""
    here = Folder(os.dup(folder.descriptor), folder.path, folder.owner)
    try:
        for name in names:
            here.make(name)
            inner = here.folder(name)
            here.close()
            here = inner
        yield here
    finally:
        here.close()


def planted(path: Path, what: str) -> OutputError:
    """The error E509: `path` is not what a merge of ours left there."""
    hint = "find out who put it there; then remove the staging folder, or choose another output folder"
    subject = "the staging folder" if path.name.endswith(STAGING) else f"'{path.name}' in the staging folder"
    said = f"{subject} is {what}, and was not made by a merge of yours"
    return OutputError("E509", said, place=str(path), hint=hint)


_KINDS = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
    stat.S_IFDIR: "a folder",
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFREG: "a file",
}


def _kind(status: os.stat_result | None) -> str:
    return _KINDS.get(stat.S_IFMT(status.st_mode), "of an unknown kind") if status else "gone"
