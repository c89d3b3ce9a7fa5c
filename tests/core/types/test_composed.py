"""Reading tensors whose rows are moved: by one index, from several models, with padding, along any axis."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from tiny import write_checkpoint
from torch import Tensor

from mergecore.compute.scratch import Scratch
from mergecore.engine.weights import Fault, InputReader, WeightFiles
from mergecore.models.folder import open_folder
from mergecore.types import (
    Checkpoint,
    ModelReference,
    MovedRows,
    Origin,
    RowSource,
    Stored,
    TensorInfo,
    one_by_one,
)
from mergecore.types.tensors import composed, rows

FORMATS = {"bf16": torch.bfloat16, "f32": torch.float32, "f64": torch.float64}
SHAPES = {"bias": (7,), "first": (7, 3), "last": (2, 7), "middle": (2, 7, 3)}
AXES = {"bias": 0, "first": 0, "last": 1, "middle": 1}


def _tensors(scale: float) -> dict[str, Tensor]:
    """Each shape in each format; element i is i + 1 times `scale`, with -0.0 as the very first."""
    made: dict[str, Tensor] = {}
    for name, shape in SHAPES.items():
        flat = torch.arange(1.0, 1 + torch.Size(shape).numel()) * scale
        flat[0] = -0.0
        made |= {f"{name}.{word}": flat.view(shape).to(dtype) for word, dtype in FORMATS.items()}
    return made


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Checkpoint]:
    folder = tmp_path_factory.mktemp("rows")
    return [
        open_folder(write_checkpoint(folder / name, _tensors(scale)), ModelReference(f"m/{name}"))
        for name, scale in (("a", 1.0), ("b", 100.0))
    ]


@pytest.fixture(scope="module")
def files(models: list[Checkpoint]) -> Iterator[WeightFiles]:
    with WeightFiles(models) as opened:
        yield opened


def source(model: int, tensor: TensorInfo, rows: Sequence[int]) -> RowSource:
    return RowSource(model, tensor, np.array(rows, dtype=np.int64))


class Loading:
    """A tensor whose rows are moved, ready to be loaded from."""

    def __init__(self, files: WeightFiles, axis: int, size: int, *sources: RowSource) -> None:
        self.faults: dict[Origin, Fault] = {}
        self.reader = InputReader(files, Scratch(torch.device("cpu")), self.faults)
        made = MovedRows(axis, size, len(sources[0].rows), sources)
        self.data = made.prepare(self.reader, one_by_one)

    def load(self, start: int, stop: int, into: Tensor, check: bool = True) -> None:
        self.data.load(self.reader if check else self.reader.unchecked, start, stop, into)


def whole(made: Loading, shape: Sequence[int], step: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Everything, read in stretches of `step` elements."""
    count = torch.Size(shape).numel()
    flat = torch.full((count,), torch.nan, dtype=dtype)
    for start in range(0, count, step):
        made.load(start, min(start + step, count), flat[start : start + step])
    return flat.view(tuple(shape))


def shaped(tensor: Tensor, axis: int, size: int) -> list[int]:
    return [*tensor.shape[:axis], size, *tensor.shape[axis + 1 :]]


INDICES = st.lists(st.integers(-1, 6), min_size=1, max_size=12)


@given(
    name=st.sampled_from(sorted(SHAPES)),
    formats=st.tuples(st.sampled_from(sorted(FORMATS)), st.sampled_from(sorted(FORMATS))),
    rows=INDICES.flatmap(
        lambda own: st.tuples(
            st.just(own), st.lists(st.integers(-1, 6), min_size=len(own), max_size=len(own))
        )
    ),
    padding=st.integers(0, 3),
    step=st.integers(1, 40),
)
def test_every_row_is_the_mean_of_what_the_sources_have(
    models: list[Checkpoint],
    files: WeightFiles,
    name: str,
    formats: tuple[str, str],
    rows: tuple[list[int], list[int]],
    padding: int,
    step: int,
) -> None:
    axis, size = AXES[name], len(rows[0]) + padding
    sources = [
        source(i, model.tensors[f"{name}.{word}"], row)
        for i, (model, word, row) in enumerate(zip(models, formats, rows, strict=True))
    ]
    stored = [
        _tensors(scale)[f"{name}.{word}"].double() for scale, word in zip((1.0, 100.0), formats, strict=True)
    ]
    wanted = torch.zeros(shaped(stored[0], axis, size), dtype=torch.float64)
    for i, pair in enumerate(zip(*rows, strict=True)):
        given_rows = [tensor.select(axis, row) for tensor, row in zip(stored, pair, strict=True) if row >= 0]
        if given_rows:
            wanted.select(axis, i).copy_(torch.stack(given_rows).sum(0) / len(given_rows))
    mean = wanted.narrow(axis, 0, len(rows[0])).sum(axis, keepdim=True) / len(rows[0])
    wanted.narrow(axis, len(rows[0]), padding).copy_(mean.expand(shaped(stored[0], axis, padding)))

    made = Loading(files, axis, size, *sources)
    torch.testing.assert_close(whole(made, wanted.shape, step), wanted.float(), rtol=1e-6, atol=0.0)
    torch.testing.assert_close(whole(made, wanted.shape, step, torch.float64), wanted, rtol=1e-14, atol=0.0)


@given(
    first=st.integers(0, 6),
    steps=st.lists(st.sampled_from([-1, 0, 0, 1, 1, 1, 1, 2, 2]), max_size=12),
    step=st.integers(1, 40),
)
@example(first=0, steps=[1, 1, 1, 1, 2, 0], step=40)  # 0 1 2 3 4 6 6: as many as from 0 to 6
def test_rows_may_repeat_and_skip_as_they_like(
    models: list[Checkpoint], files: WeightFiles, first: int, steps: list[int], step: int
) -> None:
    rows = np.clip(first + np.cumsum([0, *steps]), 0, 6)
    made = Loading(files, 0, len(rows), source(0, models[0].tensors["first.f32"], rows.tolist()))
    wanted = _tensors(1.0)["first.f32"][torch.from_numpy(rows)]
    assert torch.equal(whole(made, wanted.shape, step), wanted)


def test_a_single_row_keeps_every_bit(models: list[Checkpoint], files: WeightFiles) -> None:
    made = Loading(
        files,
        0,
        2,
        source(0, models[0].tensors["bias.f32"], [0, -1]),
        source(1, models[1].tensors["bias.f32"], [-1, 0]),
    )
    assert str(whole(made, (2,), 2).tolist()) == "[-0.0, -0.0]"


def test_no_row_at_all_is_zero(models: list[Checkpoint], files: WeightFiles) -> None:
    made = Loading(files, 0, 2, source(0, models[0].tensors["first.bf16"], [-1, -1]))
    assert whole(made, (2, 3), 4).tolist() == [[0.0] * 3] * 2


@pytest.fixture
def reads(files: WeightFiles, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """First byte and length of what is read from files."""
    seen = []
    read = files.read

    def noted(tensor: Stored, first_byte: int, into: memoryview) -> None:
        seen.append((first_byte, len(into)))
        read(tensor, first_byte, into)

    monkeypatch.setattr(files, "read", noted)
    return seen


def test_rows_that_follow_each_other_are_read_at_once(
    models: list[Checkpoint], files: WeightFiles, reads: list[tuple[int, int]]
) -> None:
    made = Loading(files, 0, 5, source(0, models[0].tensors["first.f32"], [1, 2, 3, 4, 5]))
    made.load(3, 12, torch.empty(9))  # rows 1 to 3 of the output, 2 to 4 of the file
    assert reads == [(2 * 12, 36)]


def test_rows_in_disorder_are_read_at_once_when_they_lie_close_together(
    models: list[Checkpoint], files: WeightFiles, reads: list[tuple[int, int]]
) -> None:
    made = Loading(files, 0, 4, source(0, models[0].tensors["first.f32"], [6, 1, 1, 3]))
    assert whole(made, (4, 3), 12)[:, 0].tolist() == [19.0, 4.0, 4.0, 10.0]
    assert reads == [(12, 6 * 12)]


def test_rows_far_apart_are_read_one_by_one(
    models: list[Checkpoint],
    files: WeightFiles,
    reads: list[tuple[int, int]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rows, "_GAP", 12)  # one row of three float32
    made = Loading(files, 0, 4, source(0, models[0].tensors["first.f32"], [6, 1, 0, 3]))
    assert whole(made, (4, 3), 12)[:, 0].tolist() == [19.0, 4.0, -0.0, 10.0]
    assert reads == [(0, 4 * 12), (6 * 12, 12)]


def test_no_more_than_a_block_is_read_at_once(
    models: list[Checkpoint],
    files: WeightFiles,
    reads: list[tuple[int, int]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rows, "BLOCK", 6)  # two rows
    made = Loading(files, 0, 4, source(0, models[0].tensors["first.f32"], [5, 1, 2, 3]))
    assert whole(made, (4, 3), 12)[:, 0].tolist() == [16.0, 4.0, 7.0, 10.0]
    assert [count for _, count in reads] == [24, 12, 12]


@pytest.mark.parametrize(("block", "spans"), [(3, 64), (3, 1), (7, 2), (1 << 18, 64)])
def test_the_mean_for_padding_may_take_many_parts(
    models: list[Checkpoint], files: WeightFiles, monkeypatch: pytest.MonkeyPatch, block: int, spans: int
) -> None:
    for module in (composed, rows):
        monkeypatch.setattr(module, "BLOCK", block)
    monkeypatch.setattr(composed, "_SPANS", spans)
    made = Loading(files, 0, 9, source(0, models[0].tensors["first.bf16"], [0, 1, 2, 3, 4, 5, 6]))
    # the columns are -0 4 7 … 19, 2 5 … 20, 3 6 … 21: they sum up to 69, 77 and 84
    assert whole(made, (9, 3), 27)[7:].tolist() == [pytest.approx([69 / 7, 11.0, 12.0])] * 2


def test_a_wrong_value_is_told_by_its_place_in_the_file(tmp_path: Path) -> None:
    weight = torch.ones(4, 2)
    weight[1, 1], weight[3, 0] = torch.nan, torch.inf
    model = open_folder(write_checkpoint(tmp_path / "m", {"w": weight}), ModelReference("m/a"))
    with WeightFiles([model]) as opened:
        made = Loading(
            opened,
            0,
            4,
            source(0, model.tensors["w"], [3, 2, 1, 0]),
            source(0, model.tensors["w"], [-1, 0, -1, -1]),
        )
        made.load(0, 8, torch.empty(8), check=False)
        assert made.faults == {}
        made.load(0, 8, torch.empty(8))
        assert [(one.name, fault.count, fault.first) for one, fault in made.faults.items()] == [("w", 2, 3)]
