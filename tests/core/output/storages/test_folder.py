import errno
import json
import os
import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from safetensors import safe_open
from small_output import (
    DATA,
    FACTS,
    LAYOUT,
    SIDE_FILES,
    contents,
    interrupted,
    make,
    merged,
    opened,
    staging,
)

from mergecore.errors import InputError, OutputError, PluginError, PolicyError
from mergecore.files import durable
from mergecore.output.digests import block_digest, tensor_digest
from mergecore.output.storages import folder as store
from mergecore.output.storages.folder import Stage
from mergecore.types import Layout, OutputFile, OutputTensor, Slot, StepResult, Written
from mergecore_plugins.writers.safetensors import SafetensorsParams, lay_out, read


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


# ---- the finished folder -----------------------------------------------------------------------------------


def test_a_sealed_model_holds_its_tensors_side_files_and_manifest_and_nothing_is_left_beside_it(
    out: Path,
) -> None:
    files = merged(out)
    assert sorted(files) == [
        "config.json",
        "mergecore-manifest.json",
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
        "model.safetensors.index.json",
    ]
    assert files["config.json"] == b"{}\n"
    with safe_open(out / "model-00001-of-00002.safetensors", "numpy") as file:
        assert bytes(file.get_tensor("b")) == b"bbbb"
    assert [path.name for path in out.parent.iterdir()] == ["out"]


def test_the_manifest_tells_where_every_tensor_is_and_what_it_holds(out: Path) -> None:
    with opened(out) as output:
        make(output, "a", "b")
        output.write("c", 0, DATA["c"])
        output.finish(StepResult("c", (Written("c", "0" * 64, len(DATA["c"]), 2),)))
        fingerprint = output.fingerprint
        output.seal(SIDE_FILES, FACTS)
    manifest = json.loads((out / "mergecore-manifest.json").read_bytes())
    assert manifest["format"] == "mergecore-manifest/1"
    assert manifest["fingerprint"] == fingerprint
    assert manifest["nonfinite"] == {"c": 2}
    slot = LAYOUT.slots["b"]
    assert manifest["tensors"]["b"] == {
        "dtype": "U8",
        "shape": [4],
        "digest": tensor_digest([block_digest(b"bbbb")]),
        "file": "model-00001-of-00002.safetensors",
        "offset": slot.offset,
        "nbytes": 4,
    }
    assert [(file["name"], file["size"]) for file in manifest["files"]] == [
        (path, (out / path).stat().st_size)
        for path in (
            "model-00001-of-00002.safetensors",
            "model-00002-of-00002.safetensors",
            "model.safetensors.index.json",
            "config.json",
        )
    ]


def test_side_files_are_copied_into_folders_of_their_own(out: Path, tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(b"x" * 3_000_000)
    with opened(out) as output:
        make(output, "a", "b", "c")
        output.seal({"deep/er/file": tmp_path / "source"}, FACTS)
    assert (out / "deep/er/file").read_bytes() == b"x" * 3_000_000


def test_every_file_has_the_mode_that_the_umask_leaves(out: Path) -> None:
    before = os.umask(0o027)
    try:
        merged(out)
    finally:
        os.umask(before)
    assert {stat.S_IMODE(path.stat().st_mode) for path in out.iterdir()} == {0o640}
    assert stat.S_IMODE(out.stat().st_mode) == 0o750


def test_missing_folders_above_the_target_are_made(tmp_path: Path) -> None:
    merged(tmp_path / "one" / "two" / "out")
    assert (tmp_path / "one" / "two" / "out" / "config.json").exists()


def test_an_empty_folder_is_filled(out: Path) -> None:
    out.mkdir()
    assert "config.json" in merged(out)


def test_tensors_may_be_written_from_many_threads_in_pieces(out: Path) -> None:
    tensors = [OutputTensor(f"t{index}", "U8", (1000,)) for index in range(20)]
    layout = lay_out(tensors, SafetensorsParams(shard_size=5000))
    with Stage.open(out, layout, tensors, {}) as output:

        def work(index: int) -> None:
            for start in range(900, -1, -100):
                output.write(f"t{index}", start, bytes([index]) * 100)
            output.finish(StepResult(f"t{index}", (Written(f"t{index}", "0" * 64, 1000),)))

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(work, range(20)))
        output.seal({}, FACTS)
    for index, slot in enumerate(layout.slots.values()):
        data = (out / layout.files[slot.file].name).read_bytes()
        assert data[slot.offset : slot.offset + 1000] == bytes([index]) * 1000


def test_what_was_written_can_be_read_back(out: Path) -> None:
    with opened(out) as output:
        output.write("b", 0, DATA["b"])
        output.write("c", 4, DATA["c"][4:])
        into = bytearray(3)
        output.read("c", 5, memoryview(into))
        assert into == b"CCC"
        output.read("c", 5, memoryview(b"")[:0])


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


# ---- what cannot be written --------------------------------------------------------------------------------


def test_bytes_that_do_not_fit_their_tensor_are_refused(out: Path) -> None:
    with opened(out) as output:
        for start in (-1, 1):
            with pytest.raises(
                PluginError, match=f"tensor 'a' has 4 bytes; 4 were written at byte {start}"
            ) as caught:
                output.write("a", start, b"aaaa")
            assert caught.value.code == "E402"


def test_a_tensor_that_is_not_written_whole_is_refused(out: Path) -> None:
    with opened(out) as output:
        output.write("a", 0, b"aa")
        with pytest.raises(PluginError, match="2 bytes of tensor 'a' were written, it has 4"):
            output.finish(StepResult("a", (Written("a", "0" * 64, 2),)))


def test_a_model_with_a_tensor_missing_cannot_be_sealed(out: Path) -> None:
    with opened(out) as output:
        make(output, "b")
        with pytest.raises(PluginError, match="2 tensors were not made, the first is 'a'"):
            output.seal({}, FACTS)


@pytest.mark.parametrize("name", ["../x", "/x", "a/../x", ".", "", "a//b"])
def test_a_side_file_cannot_leave_the_folder(name: str, out: Path) -> None:
    with opened(out) as output:
        make(output, "a", "b", "c")
        with pytest.raises(PolicyError, match="would be written outside the output folder") as caught:
            output.seal({name: b""}, FACTS)
    assert caught.value.code == "E301"


@pytest.mark.parametrize(
    "name", ["mergecore-manifest.json", "model.safetensors.index.json", LAYOUT.files[0].name]
)
def test_a_side_file_cannot_take_the_place_of_another(name: str, out: Path) -> None:
    with opened(out) as output:
        make(output, "a", "b", "c")
        with pytest.raises(
            PluginError, match=f"the side file '{name}' would replace a file of the merged model"
        ):
            output.seal({name: b""}, FACTS)


def test_a_side_file_that_cannot_be_read_is_told(out: Path, tmp_path: Path) -> None:
    with opened(out) as output:
        make(output, "a", "b", "c")
        with pytest.raises(InputError, match="missing: cannot be read: no such file or directory"):
            output.seal({"x": tmp_path / "missing"}, FACTS)


@pytest.mark.parametrize("name", ["a/b", "../a", "mergecore-manifest.json"])
def test_a_writer_that_lays_out_impossible_files_is_named(name: str, out: Path) -> None:
    layout = Layout((OutputFile(name, b"", 0),), {})
    with pytest.raises(PluginError, match=f"the output writer cannot lay out a file '{name}'"):
        Stage.open(out, layout, [], {})


def test_a_writer_whose_header_is_not_what_it_says_is_found_before_the_model_is_published(out: Path) -> None:
    file = OutputFile("model.safetensors", LAYOUT.files[0].header, LAYOUT.files[0].size)
    tensors = [OutputTensor("a", "U8", (4,)), OutputTensor("b", "I8", (4,))]
    slots = {name: Slot(0, LAYOUT.slots[name].offset, 4) for name in ("a", "b")}
    with Stage.open(out, Layout((file,), slots), tensors, {}, read_back=read) as output:
        make(output, "a", "b")
        with pytest.raises(OutputError, match=r"tensor 'b' is U8 \[4\] at byte \d+ in the header, I8 \[4\]"):
            output.seal({}, FACTS)
    assert not out.exists()


def test_a_target_that_came_into_being_meanwhile_is_left_alone(out: Path) -> None:
    with opened(out) as output:
        make(output, "a", "b", "c")
        out.mkdir()
        (out / "theirs").touch()
        with pytest.raises(OutputError) as caught:
            output.seal(SIDE_FILES, FACTS)
    assert caught.value.code == "E501"
    assert (
        "something was put there while the model was made; the model is complete and was kept. "
        "Hint: move that away, then run again with --resume" in str(caught.value)
    )
    assert contents(out) == {"theirs": b""}
    out.rename(out.with_name("moved"))
    with opened(out, mode="resume") as output:
        assert output.complete
