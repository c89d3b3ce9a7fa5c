"""A finished folder, and what cannot be written."""

from __future__ import annotations

import json
import os
import stat
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
    make,
    merged,
    opened,
)

from mergecore.errors import InputError, OutputError, PluginError, PolicyError
from mergecore.output.digests import block_digest, tensor_digest
from mergecore.output.storages.folder import Stage
from mergecore.types import Layout, OutputFile, OutputTensor, Slot, StepResult, Written
from mergecore_plugins.writers.safetensors import SafetensorsParams, lay_out, read

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
        with pytest.raises(PluginError, match="2 tensors not made, the first is 'a'"):
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
