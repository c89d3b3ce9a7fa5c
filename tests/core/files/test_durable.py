import ctypes
import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from mergecore.errors import OutputError
from mergecore.files import durable


@pytest.fixture
def file(tmp_path: Path) -> Iterator[int]:
    descriptor = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    yield descriptor
    os.close(descriptor)


def test_writing_goes_on_where_the_system_took_a_part(file: int, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda file, data, offset: whole(file, data[:2], offset))
    durable.write_at(file, memoryview(b"abcde"), 1)
    assert os.pread(file, 10, 0) == b"\0abcde"


def test_reading_goes_on_where_the_system_gave_a_part_and_ends_with_the_file(
    file: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = os.preadv
    monkeypatch.setattr(os, "preadv", lambda file, buffers, offset: whole(file, [buffers[0][:2]], offset))
    os.write(file, b"abcde")
    buffer = bytearray(6)
    assert durable.read_at(file, memoryview(buffer), 1) == 4
    assert buffer == b"bcde\0\0"


def test_reserving_keeps_what_a_file_holds(file: int) -> None:
    os.write(file, b"abc")
    durable.allocate(file, 100_000)
    assert os.fstat(file).st_size == 100_000
    assert os.pread(file, 4, 0) == b"abc\0"
    durable.allocate(file, 2)
    assert os.pread(file, 4, 0) == b"ab"
    durable.allocate(file, 0)
    assert os.fstat(file).st_size == 0


def test_reserving_more_than_the_disk_has_fails(file: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(durable, "_call", lambda *_: errno.EDQUOT)
    with pytest.raises(OSError, match=os.strerror(errno.EDQUOT)):
        durable.allocate(file, 10)


def test_two_folders_change_places(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    other.mkdir()
    (one / "x").touch()
    here = os.open(tmp_path, os.O_RDONLY)
    if durable.exchange((here, "one"), (here, "other")):
        assert (other / "x").exists()
    with pytest.raises(FileNotFoundError):
        durable.exchange((here, "one"), (here, "missing"))
    os.close(here)


def test_a_function_that_the_c_library_lacks_counts_as_unsupported() -> None:
    assert durable._call("no_such_function", ctypes.c_int(0)) == errno.ENOSYS


def test_a_folder_that_cannot_be_synced_is_an_error_unless_the_file_system_never_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(code: int) -> None:
        def fsync(file: int) -> None:
            raise OSError(code, os.strerror(code))

        monkeypatch.setattr(os, "fsync", fsync)

    failing(errno.EINVAL)
    durable.sync_folder(tmp_path)
    failing(errno.EIO)
    with pytest.raises(OSError, match="Input/output error"):
        durable.sync_folder(tmp_path)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (errno.EROFS, "E505 x: saving failed: Read-only file system. Hint: choose a folder you may write to"),
        (
            errno.EIO,
            "E504 x: saving failed: Input/output error. Hint: check the disk, then run again with --resume",
        ),
        (
            errno.EDQUOT,
            "E504 x: saving failed, the disk is full: Disk quota exceeded. "
            "Hint: free some space, then run again with --resume",
        ),
    ],
)
def test_what_the_system_says_is_told_with_what_to_do(code: int, message: str) -> None:
    with pytest.raises(OutputError) as caught, durable.telling(Path("x"), "saving"):
        raise OSError(code, os.strerror(code))
    assert f"{caught.value.code} {caught.value}" == message
