"""Reading weights: files that change under us, numbers that are none, buffers that are kept."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from tiny import write_checkpoint
from torch import Tensor

from mergecore.compute.scratch import Scratch
from mergecore.engine.weights import Fault, InputReader, StepInputs, WeightFiles, as_bytes, has_nonfinite
from mergecore.errors import InputError, MergecoreError, Problems
from mergecore.models.folder import open_folder
from mergecore.types import Checkpoint, ModelReference, TensorInfo, TensorInput

TENSORS = {
    "first": torch.arange(6.0),
    "second": torch.arange(6.0).to(torch.bfloat16),
    "third": torch.tensor([1, 2, 3]),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "a", TENSORS)


@pytest.fixture
def model(folder: Path) -> Checkpoint:
    return open_folder(folder, ModelReference("m/a"))


@pytest.fixture
def files(model: Checkpoint) -> Iterator[WeightFiles]:
    with WeightFiles([model]) as opened:
        yield opened


def read(files: WeightFiles, tensor: TensorInfo, dtype: torch.dtype = torch.float32) -> Tensor:
    return part(files, tensor, 0, tensor.count, dtype)


def part(files: WeightFiles, tensor: TensorInfo, start: int, stop: int, dtype: torch.dtype) -> Tensor:
    numbers = torch.empty(stop - start, dtype=dtype)
    reader = InputReader(files, Scratch(torch.device("cpu")))
    tensor.data.load(reader, start, stop, numbers)
    return numbers


def changed(files: WeightFiles, model: Checkpoint, text: str) -> None:
    with pytest.raises(InputError, match=text) as caught:
        read(files, model.tensors["first"])
    assert caught.value.code == "E235"
    assert caught.value.place == "m/a/model.safetensors"
    assert "run again once nothing writes to it" in str(caught.value)


# ---- files -------------------------------------------------------------------------------------------------


def test_elements_are_read_as_they_are_stored(model: Checkpoint, files: WeightFiles) -> None:
    assert read(files, model.tensors["first"]).equal(TENSORS["first"])
    assert read(files, model.tensors["second"], torch.bfloat16).equal(TENSORS["second"])
    assert read(files, model.tensors["third"], torch.int64).equal(TENSORS["third"])
    assert part(files, model.tensors["first"], 3, 5, torch.float32).tolist() == [3, 4]
    files.check_unchanged()


def test_a_read_that_brings_part_of_the_bytes_is_continued(
    model: Checkpoint, files: WeightFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = os.preadv
    monkeypatch.setattr(os, "preadv", lambda file, buffers, offset: whole(file, [buffers[0][:5]], offset))
    assert read(files, model.tensors["first"]).equal(TENSORS["first"])


def truncate(file: Path) -> None:
    os.truncate(file, file.stat().st_size - 30)


def swap(file: Path) -> None:
    other = file.with_name("other")
    other.write_bytes(file.read_bytes())
    other.replace(file)


def touch(file: Path) -> None:
    os.utime(file, ns=(0, 1))


def make_pipe(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (truncate, r"changed after the merge was planned: it has \d+ bytes, not \d+"),
        (swap, "its inode or modification time has changed"),
        (touch, "its inode or modification time has changed"),
        (make_pipe, "it has 0 bytes, not"),
        (Path.unlink, "it is gone"),
    ],
)
def test_a_file_that_changed_before_it_is_read_is_refused(
    folder: Path, model: Checkpoint, files: WeightFiles, change: Callable[[Path], None], text: str
) -> None:
    change(folder / "model.safetensors")
    changed(files, model, text)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (truncate, r"it has \d+ bytes, not \d+"),
        (swap, "its inode or modification time has changed"),
        (touch, "its inode or modification time has changed"),
        (Path.unlink, "it is gone"),
    ],
)
def test_a_file_that_changed_while_it_was_read_is_noticed_at_the_end(
    folder: Path, model: Checkpoint, files: WeightFiles, change: Callable[[Path], None], text: str
) -> None:
    read(files, model.tensors["first"])
    change(folder / "model.safetensors")
    with pytest.raises(InputError, match=text) as caught:
        files.check_unchanged()
    assert caught.value.code == "E235"


def test_a_file_that_is_cut_short_while_it_is_read_is_an_error_and_no_bus_error(
    folder: Path, model: Checkpoint, files: WeightFiles
) -> None:
    read(files, model.tensors["third"], torch.int64)
    os.truncate(folder / "model.safetensors", 100)
    changed(files, model, "it is shorter now")


def test_a_disk_that_fails_is_told(
    model: Checkpoint, files: WeightFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "preadv", fail)
    with pytest.raises(
        InputError, match=r"m/a/model\.safetensors: cannot be read: Input/output error"
    ) as caught:
        read(files, model.tensors["first"])
    assert caught.value.code == "E236"


def test_a_file_that_was_downloaded_after_planning_has_no_stamp_to_compare(model: Checkpoint) -> None:
    planned = replace(model.weight_files[0], stamp=(0, 0, 0))
    with WeightFiles([replace(model, weight_files=(planned,))]) as files:
        assert read(files, model.tensors["first"]).equal(TENSORS["first"])
        files.check_unchanged()
        touch(planned.path)
        with pytest.raises(InputError, match="modification time"):
            files.check_unchanged()
    with WeightFiles([replace(model, weight_files=(replace(planned, size=7),))]) as files:
        changed(files, model, "bytes, not 7")


def test_every_file_is_closed_at_the_end(
    folder: Path, model: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    descriptors: list[int] = []

    def opened(path: Path, flags: int) -> int:
        descriptors.append(original(path, flags))
        return descriptors[-1]

    original = os.open
    monkeypatch.setattr(os, "open", opened)
    with WeightFiles([model]) as files:
        read(files, model.tensors["first"])
        read(files, model.tensors["third"], torch.int64)
    touch(folder / "model.safetensors")
    with WeightFiles([model]) as files:
        changed(files, model, "modification time")
    assert len(descriptors) == 2
    for descriptor in descriptors:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(descriptor)


# ---- numbers -----------------------------------------------------------------------------------------------

INTEGERS = {torch.bfloat16: "u2", torch.float16: "u2", torch.float32: "u4", torch.float64: "u8"}
INFINITIES = {
    torch.bfloat16: 0x7F80,
    torch.float16: 0x7C00,
    torch.float32: 0x7F800000,
    torch.float64: 0x7FF << 52,
}


def from_bits(bits: list[int], dtype: torch.dtype) -> Tensor:
    return torch.from_numpy(np.array(bits, INTEGERS[dtype]).view(np.uint8)).view(dtype)


@pytest.mark.parametrize("dtype", INTEGERS)
@given(st.data())
def test_any_bit_pattern_is_judged_as_torch_does(dtype: torch.dtype, data: st.DataObject) -> None:
    width = 8 * dtype.itemsize
    edge = INFINITIES[dtype]
    near = st.sampled_from([edge - 1, edge, edge + 1, 0]).flatmap(
        lambda bits: st.sampled_from([bits, bits | 1 << (width - 1)])
    )
    numbers = from_bits(data.draw(st.lists(near | st.integers(0, 2**width - 1), max_size=5)), dtype)
    assert has_nonfinite(numbers) == (not torch.isfinite(numbers).all())


@pytest.mark.parametrize("dtype", INTEGERS)
@pytest.mark.parametrize("bad", ["nan", "-nan", "inf", "-inf"])
def test_one_bad_number_among_extreme_ones_is_found(dtype: torch.dtype, bad: str) -> None:
    limits = torch.finfo(dtype)
    numbers = torch.tensor([limits.max, -limits.max, limits.tiny, -0.0, 0.0] * 7, dtype=dtype)
    assert not has_nonfinite(numbers)
    sign = 1 << (8 * dtype.itemsize - 1) if bad[0] == "-" else 0
    numbers[17] = from_bits([INFINITIES[dtype] + ("nan" in bad) + sign], dtype)[0]
    assert has_nonfinite(numbers)


def test_no_numbers_are_finite() -> None:
    assert not has_nonfinite(torch.empty(0))


@given(st.lists(st.lists(st.integers(0, 50), min_size=1, unique=True), min_size=1, max_size=4))
@example([[3], [1, 2]])
def test_faults_are_counted_whatever_block_comes_first(blocks: list[list[int]]) -> None:
    fault = Fault()
    for block in blocks:
        fault.add(torch.tensor(sorted(block)))
    fault.add(torch.tensor([], dtype=torch.int64))
    assert fault.count == sum(map(len, blocks))
    assert fault.first == min(min(block) for block in blocks)


def inputs(files: WeightFiles, *tensors: tuple[str, TensorInfo], allow: bool = False) -> StepInputs:
    """The inputs, each of a model of its own."""
    names = [name for name, _ in tensors]
    found = [TensorInput(i, tensor) for i, (_, tensor) in enumerate(tensors)]
    return StepInputs(files, Scratch(torch.device("cpu")), found, names.__getitem__, allow)


def load(made: StepInputs, start: int, stop: int, rows: int, dtype: torch.dtype = torch.float32) -> Tensor:
    numbers = torch.full((rows, stop - start), 99.0, dtype=dtype)
    made.load(start, stop, numbers.unbind())
    return numbers


def test_inputs_of_any_dtype_become_rows_of_one_dtype(model: Checkpoint, files: WeightFiles) -> None:
    made = inputs(files, ("m/a", model.tensors["first"]), ("m/a", model.tensors["second"]))
    assert load(made, 2, 5, 2).tolist() == [[2, 3, 4], [2, 3, 4]]
    assert load(made, 0, 1, 2, torch.float64).tolist() == [[0], [0]]
    made.raise_faults()


@pytest.fixture
def damaged(tmp_path: Path) -> Checkpoint:
    nan, inf = float("nan"), float("inf")
    tensors = {
        "one": torch.tensor([1.0, 2, nan, 4]),
        "many": torch.tensor([1.0, inf, 3, -inf], dtype=torch.bfloat16),
        "sound": torch.ones(4),
    }
    return open_folder(write_checkpoint(tmp_path / "b", tensors), ModelReference("m/b"))


def test_input_that_is_not_finite_is_told_with_model_tensor_count_and_place(damaged: Checkpoint) -> None:
    with WeightFiles([damaged]) as files:
        made = inputs(files, ("m/b", damaged.tensors["one"]))
        load(made, 2, 4, 1)
        load(made, 0, 2, 1)
        with pytest.raises(InputError) as caught:
            made.raise_faults()
    assert caught.value.code == "E234"
    assert caught.value.tensor == "one"
    assert str(caught.value) == (
        "m/b: tensor 'one': 1 value is not finite (NaN or Inf), the first at index 2."
        " Hint: the checkpoint is damaged; use another, or --allow-nonfinite"
    )


def test_all_bad_inputs_of_a_tensor_are_told_in_their_order(damaged: Checkpoint) -> None:
    tensors = [("m/b", damaged.tensors[name]) for name in ("sound", "many", "one")]
    with WeightFiles([damaged]) as files:
        made = inputs(files, *tensors)
        load(made, 2, 4, 3)  # the second half comes first
        load(made, 0, 2, 3)
        with pytest.raises(Problems) as caught:
            made.raise_faults()
    assert [error.what for error in caught.value.errors] == [
        "m/b: tensor 'many': 2 values are not finite (NaN or Inf), the first at index 1",
        "m/b: tensor 'one': 1 value is not finite (NaN or Inf), the first at index 2",
    ]


def test_input_that_is_not_finite_may_be_allowed(damaged: Checkpoint) -> None:
    with WeightFiles([damaged]) as files:
        made = inputs(files, ("m/b", damaged.tensors["one"]), allow=True)
        assert load(made, 0, 4, 1).isnan().tolist() == [[False, False, True, False]]
        made.raise_faults()


def test_the_first_pass_alone_looks_for_bad_numbers(damaged: Checkpoint) -> None:
    with WeightFiles([damaged]) as files:
        made = inputs(files, ("m/b", damaged.tensors["one"]))
        for _ in range(2):  # the second pass finds nothing more
            load(made, 0, 4, 1)
            with pytest.raises(MergecoreError, match="1 value is"):
                made.raise_faults()


# ---- buffers -----------------------------------------------------------------------------------------------


def test_a_buffer_is_kept_for_its_purpose() -> None:
    scratch = Scratch(torch.device("cpu"))
    first = scratch.numbers("x", (2, 50), torch.float32)
    assert scratch.numbers("x", (3, 10), torch.float32).data_ptr() == first.data_ptr()
    assert scratch.numbers("y", (2, 50), torch.float32).data_ptr() != first.data_ptr()
    assert scratch.raw("x", 100, torch.float32).data_ptr() != first.data_ptr()
    assert scratch.numbers("x", (2, 50), torch.float64).dtype == torch.float64
    assert scratch.numbers("x", (5, 50), torch.float32).shape == (5, 50)
    assert scratch.numbers("x", (), torch.float32).shape == ()


def test_each_thread_has_its_own_buffers() -> None:
    scratch = Scratch(torch.device("cpu"))
    mine = scratch.raw("x", 10, torch.float32)
    theirs: list[Tensor] = []
    thread = threading.Thread(target=lambda: theirs.append(scratch.raw("x", 10, torch.float32)))
    thread.start()
    thread.join()
    assert theirs[0].data_ptr() != mine.data_ptr()


def test_the_memory_of_a_tensor_can_be_written() -> None:
    numbers = torch.zeros(2, dtype=torch.int16)
    as_bytes(numbers)[:] = b"\x01\x00\x00\x01"
    assert numbers.tolist() == [1, 256]
    assert len(as_bytes(torch.empty(0))) == 0
