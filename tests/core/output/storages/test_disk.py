"""What a run does to the disk, and what it does when the disk is full or fails."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from small_output import (
    DATA,
    LAYOUT,
    interrupted,
    make,
    merged,
    opened,
    staging,
)

from mergecore.errors import OutputError
from mergecore.files import durable
from mergecore.output.storages import folder as store
from mergecore.output.storages.folder import Stage
from mergecore.types import OutputTensor, StepResult, Written
from mergecore_plugins.writers.safetensors import SafetensorsParams, lay_out

# ---- the disk ----------------------------------------------------------------------------------------------


def test_data_are_synced_before_the_journal_says_that_they_are_there(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []

    def noting(call: str, original: Callable[..., object]) -> Callable[..., object]:
        def noted(file: int, *rest: object) -> object:
            calls.append(f"{call} {Path(f'/proc/self/fd/{file}').readlink().name}")
            return original(file, *rest)

        return noted

    with opened(out) as output:
        monkeypatch.setattr(os, "pwrite", noting("write", os.pwrite))
        monkeypatch.setattr(os, "fdatasync", noting("sync", os.fdatasync))
        make(output, "a", "c")
        monkeypatch.setattr(store, "COMMIT_BYTES", 1)
        make(output, "b")
    first, second = (file.name for file in LAYOUT.files)
    assert calls == [
        *(f"write {first}", f"write {second}", f"write {first}"),
        *(f"sync {first}", f"sync {second}", "write journal", "sync journal"),
    ]


def test_a_commit_comes_after_enough_time(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(out) as output:
        make(output, "a")
        assert (staging(out) / ".work" / "journal").stat().st_size == 0
        monkeypatch.setattr(store, "COMMIT_SECONDS", 0)
        make(output, "b")
        assert (staging(out) / ".work" / "journal").stat().st_size > 0


def test_a_full_disk_is_told_and_the_run_can_be_resumed(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with opened(out) as output:
        make(output, "a")
        with monkeypatch.context() as patch:
            patch.setattr(os, "pwrite", full)
            with pytest.raises(OutputError) as caught:
                output.write("b", 0, DATA["b"])
    assert caught.value.code == "E504"
    assert str(caught.value) == (
        f"{out}: writing failed, the disk is full: No space left on device. "
        "Hint: free some space, then run again with --resume"
    )
    with opened(out, mode="resume") as output:
        assert sorted(output.done) == ["a"]


def test_a_failed_sync_is_final_and_nothing_it_was_for_is_journalled(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    syncs = []

    def broken(file: int) -> None:
        syncs.append(file)
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    interrupted(out, "a")
    with opened(out, mode="resume") as output:
        monkeypatch.setattr(store, "COMMIT_BYTES", 0)
        monkeypatch.setattr(os, "fdatasync", broken)
        with pytest.raises(OutputError) as caught:
            make(output, "b")
    assert caught.value.code == "E504"
    assert "writing failed: Input/output error. Hint: check the disk, then run again with --resume" in str(
        caught.value
    )
    assert len(syncs) == 1
    monkeypatch.undo()
    with opened(out, mode="resume") as output:
        assert sorted(output.done) == ["a"]


def test_after_a_failed_sync_nothing_more_is_committed(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(file: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with opened(out) as output:
        monkeypatch.setattr(store, "COMMIT_BYTES", 0)
        with monkeypatch.context() as patch:
            patch.setattr(os, "fdatasync", broken)
            with pytest.raises(OutputError, match="Input/output error"):
                make(output, "a")
        with pytest.raises(OutputError, match="an earlier write failed"):
            make(output, "b")


def test_an_error_while_closing_does_not_hide_the_error_that_came_first(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(file: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    def fail() -> None:
        with opened(out) as output:
            make(output, "a")
            monkeypatch.setattr(os, "fdatasync", broken)
            raise KeyError("first")

    with pytest.raises(KeyError) as caught:
        fail()
    assert "writing failed: Input/output error" in caught.value.__notes__[0]


def test_a_disk_that_is_too_small_is_found_before_a_tensor_is_made(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(durable, "_call", lambda *_: errno.ENOSPC)
    with pytest.raises(OutputError) as caught:
        opened(out)
    assert caught.value.code == "E503"
    assert "the disk has less: No space left on device" in str(caught.value)
    assert list(out.parent.iterdir()) == []


@pytest.mark.parametrize("code", [errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_system_that_can_neither_reserve_nor_exchange_will_do(
    code: int, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    merged(out, seed=2)
    monkeypatch.setattr(durable, "_call", lambda *_: code)
    merged(out, overwrite=True)
    assert merged(out) == merged(out.with_name("other"))
    assert sorted(path.name for path in out.parent.iterdir()) == ["other", "out"]


def test_missing_permission_is_told(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_: object, **__: object) -> None:
        raise OSError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(os, "mkdir", denied)
    with pytest.raises(OutputError, match="making the staging folder failed: Permission denied") as caught:
        opened(out)
    assert caught.value.code == "E505"


@pytest.mark.parametrize(
    ("place", "doing"),
    [
        ("_begin", "preparing the output"),
        ("write", "writing"),
        ("read", "reading back"),
        ("discard", "removing what was made"),
    ],
)
def test_what_fails_is_told_with_what_was_being_done(
    place: str, doing: str, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    told = rf"out: {doing} failed: Input/output error\. Hint: check the disk"
    if place == "_begin":
        monkeypatch.setattr(Stage, "_begin", broken)
        with pytest.raises(OutputError, match=told):
            opened(out)
        return
    with opened(out) as output:
        make(output, "a")
        work: dict[str, Callable[[], None]] = {
            "write": lambda: output.write("b", 0, DATA["b"]),
            "read": lambda: output.read("a", 0, memoryview(bytearray(4))),
            "discard": output.discard,
        }
        with monkeypatch.context() as patch:
            patch.setattr(durable, "write_at", broken)
            patch.setattr(durable, "read_at", broken)
            patch.setattr("mergecore.output.staging.clear", broken)
            with pytest.raises(OutputError, match=told) as caught:
                work[place]()
    assert caught.value.code == "E504"


def test_a_file_that_became_shorter_is_told(out: Path) -> None:
    with opened(out) as output:
        make(output, "a")
        [file] = (staging(out) / "model").glob("*00001*")
        os.truncate(file, 8)
        with pytest.raises(OutputError, match="reading back failed: the file became shorter"):
            output.read("a", 0, memoryview(bytearray(4)))


def test_no_staging_folder_that_can_be_made_is_told(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(_: object) -> None:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))

    monkeypatch.setattr("mergecore.output.staging.Staging.enter", gone)
    told = rf"out: no folder can be made in {out.parent}\. Hint: choose another output folder$"
    with pytest.raises(OutputError, match=told) as caught:
        opened(out)
    assert caught.value.code == "E505"


def test_many_small_files_need_few_descriptors(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tensors = [OutputTensor(f"t{index}", "U8", (1,)) for index in range(50)]
    layout = lay_out(tensors, SafetensorsParams(shard_size=1))
    monkeypatch.setattr(store, "COMMIT_BYTES", 10)
    with Stage.open(out, layout, tensors, {}) as output:
        for tensor in tensors:
            output.write(tensor.name, 0, b"x")
            output.finish(StepResult(tensor.name, (Written(tensor.name, "0" * 64, 1),)))
            assert len(output._open_files) <= 10
