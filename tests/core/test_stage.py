import errno
import json
import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypedDict, Unpack

import pytest
from safetensors import safe_open

from mergecore import disk, journal, stage
from mergecore.digests import block_digest, tensor_digest
from mergecore.errors import InputError, MergecoreError, OutputError, PluginError, PolicyError
from mergecore.partial import Mode
from mergecore.stage import Stage
from mergecore.target import check_target
from mergecore.types import Json, Layout, OutputFile, OutputTensor, Slot
from mergecore_plugins.writers.safetensors import SafetensorsParams, lay_out

SCRIPT = Path(__file__).with_name("interrupted_merge.py")
TENSORS = [OutputTensor("a", "U8", (4,)), OutputTensor("b", "U8", (4,)), OutputTensor("c", "F32", (2, 1))]
LAYOUT = lay_out(TENSORS, SafetensorsParams(shard_size=8))  # a and b in the first file, c in the second
DATA = {"a": b"aaaa", "b": b"bbbb", "c": b"ccccCCCC"}
SIDE_FILES: dict[str, Path | bytes] = {"config.json": b"{}\n"}
FACTS: dict[str, Json] = {"format": "mergecore-manifest/1"}


class Options(TypedDict, total=False):
    mode: Mode
    overwrite: bool
    recheck: bool


def opened(target: Path, seed: int = 1, **options: Unpack[Options]) -> Stage:
    return Stage.open(target, LAYOUT, TENSORS, {"seed": seed}, **options)


def make(output: Stage, *names: str) -> None:
    for name in names:
        output.write(name, 0, DATA[name])
        output.finish(name, tensor_digest([block_digest(DATA[name])]))


def merged(target: Path, seed: int = 1, **options: Unpack[Options]) -> dict[str, bytes]:
    with opened(target, seed, **options) as output:
        if not output.complete:
            make(output, *(DATA.keys() - output.done.keys()))
            output.seal(SIDE_FILES, FACTS)
    return contents(target)


def interrupted(target: Path, *names: str, **options: Unpack[Options]) -> None:
    """A run that stops after `names`."""
    with opened(target, **options) as output:
        make(output, *names)


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def staging(target: Path) -> Path:
    return target.with_name(f".{target.name}.mergecore-partial")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


# ---- interruption at every point ---------------------------------------------------------------------------


@pytest.fixture
def fast_folder(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory where there is one: hundreds of merges run in it."""
    memory = Path("/dev/shm")  # noqa: S108 - a mount point, not a file
    if not (memory.is_dir() and os.access(memory, os.W_OK)):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        yield Path(folder)


def run_script(how: str, scenario: str, folder: Path) -> dict[str, int]:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), how, scenario, str(folder)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, int] = json.loads(done.stdout)
    return found


SCENARIOS = pytest.mark.parametrize(
    ("scenario", "states"),
    [
        ("fresh", {"before", "new"}),
        ("overwrite", {"before", "new"}),
        ("two-step", {"before", "new", "absent"}),
    ],
)


@SCENARIOS
def test_killed_at_any_call_the_target_is_old_or_complete_and_resumes_to_the_same_bytes(
    scenario: str, states: set[str], fast_folder: Path
) -> None:
    found = run_script("kill", scenario, fast_folder)
    assert found.keys() == states | {"resumed"}
    assert found["resumed"] > 40


@SCENARIOS
def test_whichever_call_fails_the_target_is_old_or_complete_and_resumes_to_the_same_bytes(
    scenario: str, states: set[str], fast_folder: Path
) -> None:
    found = run_script("fail", scenario, fast_folder)
    assert found.keys() - {"E503", "E508", "no error"} == states | {"resumed", "E504"}
    assert found.get("no error", 0) < 6


@SCENARIOS
def test_after_a_power_cut_the_target_is_old_or_complete_and_resumes_to_the_same_bytes(
    scenario: str, states: set[str], fast_folder: Path
) -> None:
    found = run_script("cut", scenario, fast_folder)
    assert found.keys() == states | {"resumed"}


def test_a_disk_that_ignores_syncs_loses_data_so_the_test_above_tests_something(fast_folder: Path) -> None:
    found = run_script("cut-unsynced", "overwrite", fast_folder)
    assert found["wrong"]
    assert found["not resumed"]


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
        output.finish("c", "0" * 64, nonfinite=2)
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
            output.finish(f"t{index}", "0" * 64)

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


# ---- an earlier run ----------------------------------------------------------------------------------------


def test_a_resumed_merge_keeps_what_is_done_and_has_the_same_bytes(out: Path, tmp_path: Path) -> None:
    interrupted(out, "c", "a")
    with opened(out, mode="resume") as output:
        assert sorted(output.done) == ["a", "c"]
        assert output.damaged == ()
        make(output, "b")
        output.seal(SIDE_FILES, FACTS)
    assert contents(out) == merged(tmp_path / "uninterrupted")


def test_counts_of_numbers_that_are_not_finite_survive_an_interruption(out: Path) -> None:
    with opened(out) as output:
        output.write("a", 0, DATA["a"])
        output.finish("a", tensor_digest([block_digest(DATA["a"])]), nonfinite=3)
    merged(out, mode="resume")
    assert json.loads((out / "mergecore-manifest.json").read_bytes())["nonfinite"] == {"a": 3}


def test_to_resume_where_nothing_is_begins_afresh(out: Path) -> None:
    assert "config.json" in merged(out, mode="resume")


def test_a_partial_run_is_refused_unless_one_says_what_to_do_with_it(out: Path) -> None:
    interrupted(out, "a", "b")
    with pytest.raises(OutputError) as caught:
        opened(out)
    assert caught.value.code == "E507"
    assert str(caught.value) == (
        f"{out}: a partial run exists (2 of 3 tensors, the same plan). "
        "Hint: --resume to go on, --restart to throw it away"
    )
    assert merged(out, mode="restart") == merged(out)


def test_a_partial_run_of_another_plan_is_refused_with_the_differences(out: Path) -> None:
    interrupted(out, "a")
    with pytest.raises(OutputError) as caught:
        opened(out, seed=2)
    assert caught.value.code == "E507"
    assert "a partial run of another plan exists (1 of 3 tensors); it differs in seed: 1 → 2" in str(
        caught.value
    )


def test_to_resume_another_plan_is_refused_with_the_differences(out: Path) -> None:
    files: list[Json] = [{"name": "x.safetensors", "size": 1}, {"name": "y.safetensors", "size": 2}]
    identity: dict[str, Json] = {
        "seed": 1,
        "models": [{"reference": "m/a", "files": files}],
        "tags": ["x"],
        "note": "n",
    }
    with Stage.open(out, LAYOUT, TENSORS, identity) as output:
        make(output, "a")
    models: list[Json] = [{"reference": "m/a", "files": [files[0], {"name": "y.safetensors", "size": 3}]}]
    identity |= {"models": models, "tags": ["x", "y"], "seed": True, "note": "m"}
    with pytest.raises(OutputError) as caught:
        Stage.open(out, LAYOUT, TENSORS, identity, mode="resume")
    assert caught.value.code == "E507"
    assert (
        "the partial run is of another plan; it differs in seed: 1 → true, "
        'models[m/a].files[y.safetensors].size: 2 → 3, tags: ["x"] → ["x", "y"], …. '
        "Hint: --restart to throw it away, or choose another output folder"
    ) in str(caught.value)


def test_another_layout_is_another_plan(out: Path) -> None:
    interrupted(out, "a")
    layout = lay_out(TENSORS, SafetensorsParams())
    with pytest.raises(OutputError, match=r"it differs in layout\.files: "):
        Stage.open(out, layout, TENSORS, {"seed": 1}, mode="resume")


def test_a_plan_that_cannot_be_read_is_another_plan(out: Path) -> None:
    interrupted(out, "a")
    (staging(out) / ".work" / "plan.json").write_text("{")
    with pytest.raises(OutputError, match="it differs in everything"):
        opened(out, mode="resume")


def test_a_run_that_finished_no_tensor_leaves_nothing(out: Path) -> None:
    interrupted(out)
    assert list(out.parent.iterdir()) == []


def test_a_finished_model_of_the_same_plan_is_all_there_is_to_do(out: Path) -> None:
    files = merged(out)
    welcome: list[Options] = [
        {},
        {"mode": "resume"},
        {"mode": "restart"},
        {"mode": "resume", "overwrite": True},
    ]
    for options in welcome:
        with opened(out, **options) as output:
            assert output.complete
    assert contents(out) == files


def test_a_finished_model_that_lost_a_file_is_not_taken_for_complete(out: Path) -> None:
    merged(out)
    (out / "config.json").unlink()
    with pytest.raises(OutputError, match="it holds another merge"):
        opened(out)


def test_what_an_interrupted_end_left_beside_a_complete_model_is_removed(out: Path) -> None:
    merged(out)
    work = staging(out) / ".work"
    work.mkdir(parents=True)
    (work / "journal").touch()
    with opened(out) as output:
        assert output.complete
    assert [path.name for path in out.parent.iterdir()] == ["out"]


def test_a_complete_model_waiting_for_its_place_is_put_there(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(places: object, *, overwrite: bool) -> None:
        raise OSError(errno.EIO, "broken")

    with monkeypatch.context() as patch:
        patch.setattr("mergecore.staging.publish", fail)
        with pytest.raises(OutputError, match="completing the output failed: broken"):
            merged(out)
    assert not out.exists()
    with opened(out, mode="resume") as output:
        assert output.complete
    assert sorted(output.done) == ["a", "b", "c"]
    assert (out / "config.json").exists()


# ---- damage ------------------------------------------------------------------------------------------------


def overwrite_bytes(out: Path, name: str) -> None:
    slot = LAYOUT.slots[name]
    with (staging(out) / "model" / LAYOUT.files[slot.file].name).open("r+b") as file:
        file.seek(slot.offset)
        file.write(b"!")


def test_bytes_lost_when_the_machine_went_down_are_made_again(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = merged(out.with_name("good"))
    interrupted(out, "a", "b", "c")
    overwrite_bytes(out, "b")
    (out.parent / "boot").write_text("another\n")
    monkeypatch.setattr(journal, "_BOOT_ID", out.parent / "boot")
    with opened(out, mode="resume") as output:
        assert output.damaged == ("b",)
        assert sorted(output.done) == ["a", "c"]
        make(output, "b")
        output.seal(SIDE_FILES, FACTS)
    assert contents(out) == good


def test_damage_is_looked_for_when_asked(out: Path) -> None:
    interrupted(out, "a", "b")
    overwrite_bytes(out, "a")
    with opened(out, mode="resume", recheck=True) as output:
        assert output.damaged == ("a",)
    with opened(out, mode="resume") as output:  # it is remembered
        assert sorted(output.done) == ["b"]


def test_tensors_of_a_file_that_is_gone_are_not_done_now_or_later(out: Path) -> None:
    interrupted(out, "a", "c")
    (staging(out) / "model" / LAYOUT.files[0].name).unlink()
    for damaged in (("a",), ()):
        with opened(out, mode="resume") as output:
            assert output.damaged == damaged
            assert sorted(output.done) == ["c"]


def test_a_model_that_waited_for_its_place_and_is_damaged_does_not_count_as_complete(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("mergecore.staging.publish", lambda places, overwrite: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            merged(out)
    overwrite_bytes(out, "c")
    with opened(out, mode="resume", recheck=True) as output:
        assert not output.complete
    assert not out.exists()
    assert merged(out, mode="resume") == merged(out.with_name("good"))


def test_a_torn_line_of_the_journal_and_what_follows_it_do_not_count(out: Path) -> None:
    interrupted(out, "a", "b")
    path = staging(out) / ".work" / "journal"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + lines[1] + lines[2][:-9] + b"\n")
    with opened(out, mode="resume") as output:
        assert len(output.done) == 1
        make(output, *(DATA.keys() - output.done.keys()))
    with opened(out, mode="resume") as output:
        assert len(output.done) == 3


def test_a_damaged_line_of_the_journal_is_noticed_by_its_checksum(out: Path) -> None:
    interrupted(out, "a")
    path = staging(out) / ".work" / "journal"
    path.write_bytes(path.read_bytes().replace(b'"t":"a"', b'"t":"b"'))
    with opened(out, mode="resume") as output:
        assert output.done == {}


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
        monkeypatch.setattr(stage, "COMMIT_BYTES", 1)
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
        monkeypatch.setattr(stage, "COMMIT_SECONDS", 0)
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
        monkeypatch.setattr(stage, "COMMIT_BYTES", 0)
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
        monkeypatch.setattr(stage, "COMMIT_BYTES", 0)
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
    monkeypatch.setattr(disk, "_call", lambda *_: errno.ENOSPC)
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
    monkeypatch.setattr(disk, "_call", lambda *_: code)
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


def test_many_small_files_need_few_descriptors(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tensors = [OutputTensor(f"t{index}", "U8", (1,)) for index in range(50)]
    layout = lay_out(tensors, SafetensorsParams(shard_size=1))
    monkeypatch.setattr(stage, "COMMIT_BYTES", 10)
    with Stage.open(out, layout, tensors, {}) as output:
        for tensor in tensors:
            output.write(tensor.name, 0, b"x")
            output.finish(tensor.name, "0" * 64)
            assert len(output._open_files) <= 10


# ---- two writers -------------------------------------------------------------------------------------------


def test_a_second_process_is_told_who_writes(out: Path) -> None:
    command = [sys.executable, str(SCRIPT), "hold", "fresh", str(out.parent)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "holding\n"
        with pytest.raises(OutputError) as caught:
            opened(out)
        process.communicate()
    assert caught.value.code == "E506"
    assert f"another merge is writing this output: process {process.pid} on " in str(caught.value)
    assert "Hint: wait for it or stop it, or choose another output folder" in str(caught.value)
    assert "config.json" in merged(out)


def test_a_second_writer_on_a_disk_without_locks_is_noticed_by_the_journal(out: Path) -> None:
    output = opened(out)
    make(output, "a")
    with (staging(out) / ".work" / "journal").open("ab") as file:
        file.write(b"something\n")
    with pytest.raises(OutputError) as caught:
        output.close()
    assert caught.value.code == "E506"
    assert "another process writes the same output" in str(caught.value)


def test_a_complete_model_that_another_process_is_just_tidying_is_complete(out: Path) -> None:
    merged(out)
    files = contents(out)
    with opened(out, overwrite=True), opened(out) as output:
        assert output.complete
    assert contents(out) == files


def test_a_staging_folder_that_is_a_link_is_refused(out: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    staging(out).symlink_to("elsewhere")
    with pytest.raises(OutputError, match="the staging folder is a symbolic link"):
        opened(out)
    assert list((tmp_path / "elsewhere").iterdir()) == []


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
            output.finish("a", "0" * 64)


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
        with pytest.raises(InputError, match="cannot be read: No such file or directory"):
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
    with Stage.open(out, Layout((file,), slots), tensors, {}) as output:
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
    assert "something was put there while the model was made; the model is complete and was kept" in str(
        caught.value
    )
    assert contents(out) == {"theirs": b""}
    out.rename(out.with_name("moved"))
    with opened(out, mode="resume") as output:
        assert output.complete


# ---- the target --------------------------------------------------------------------------------------------


def refusal(target: Path, *inputs: Path, overwrite: bool = False, nbytes: int = 0) -> str:
    with pytest.raises(MergecoreError) as caught:
        check_target(target, inputs, overwrite, nbytes=nbytes)
    return f"{caught.value.code} {caught.value}"


def test_a_folder_that_is_not_empty_is_refused(out: Path) -> None:
    out.mkdir()
    (out / "x").touch()
    assert refusal(out) == (
        f"E501 {out}: the output folder is not empty. "
        "Hint: choose another output folder (--overwrite replaces finished merges only)"
    )
    assert refusal(out, overwrite=True).startswith(
        f"E501 {out}: the output folder holds no mergecore-manifest.json: --overwrite replaces finished merges only"
    )


def test_another_merge_is_replaced_only_when_told_so(out: Path) -> None:
    merged(out, seed=2)
    assert refusal(out) == (
        f"E501 {out}: the output folder is not empty: it holds another merge. "
        "Hint: choose another output folder, or --overwrite to replace it"
    )
    files = merged(out, overwrite=True)
    assert files == merged(out.with_name("other"))
    assert sorted(path.name for path in out.parent.iterdir()) == ["other", "out"]


def test_to_overwrite_the_same_merge_makes_it_again(out: Path) -> None:
    files = merged(out)
    (out / "model.safetensors.index.json").write_text("damaged")
    assert merged(out, overwrite=True) == files


def test_a_file_or_a_link_is_refused(out: Path) -> None:
    out.touch()
    assert "E501" in refusal(out)
    assert "the output exists and is not a directory" in refusal(out)
    link = out.with_name("link")
    link.symlink_to("nowhere")
    assert "E501" in refusal(link)
    assert "the output folder is a symbolic link" in refusal(link)


def test_an_input_its_inside_and_its_outside_are_refused(tmp_path: Path) -> None:
    model = tmp_path / "models" / "a"
    model.mkdir(parents=True)
    (tmp_path / "link").symlink_to(model)
    assert refusal(model, tmp_path / "link").startswith(f"E502 {model}: the output folder is the input model")
    assert f"E502 {model / 'new'}: the output folder is inside the input model {model}" in refusal(
        model / "new", model
    )
    assert "the output folder contains the input model" in refusal(tmp_path / "models", model)


def test_a_small_disk_is_refused(out: Path) -> None:
    assert refusal(out, nbytes=10**18).startswith(f"E503 {out}: the weights need 1e+06 TB, the disk has ")


def test_what_an_earlier_run_has_reserved_counts_as_free(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tensors = [OutputTensor("t", "U8", (1_000_000,))]
    layout = lay_out(tensors, SafetensorsParams())
    with Stage.open(out, layout, tensors, {}) as output:
        output.write("t", 0, bytes(1_000_000))
        output.finish("t", "0" * 64)
    status = list(os.statvfs(out.parent))
    status[4] = 0  # f_bavail
    monkeypatch.setattr(os, "statvfs", lambda _: os.statvfs_result(status))
    check_target(out, [], False, nbytes=900_000)


def test_a_parent_that_cannot_be_written_or_is_a_file_is_refused(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out.touch()
    assert refusal(out / "deeper").startswith(f"E505 {out / 'deeper'}: {out} is not a directory")
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert f"no permission to write in {out.parent}" in refusal(out.parent / "new")


def test_a_mount_point_and_the_current_folder_are_refused(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out.mkdir()
    with monkeypatch.context() as patch:
        patch.chdir(out)
        assert "E505" in refusal(Path())
        assert "the output folder is the current folder" in refusal(Path())
    monkeypatch.setattr(Path, "is_mount", lambda path: path == out)
    assert "E505" in refusal(out)
    assert f"Hint: choose a folder inside it, such as {out / 'merged'}" in refusal(out)
