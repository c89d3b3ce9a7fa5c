"""Tensors of opened models, read outside of a merge."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import mergecore
from mergecore.errors import InputError
from mergecore.types import TensorInput

WHOLE = torch.arange(24.0).view(2, 3, 4)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    tensors = {
        "one": torch.tensor(5.0),
        "row": torch.arange(7, dtype=torch.int64),
        "matrix": WHOLE[0].clone().bfloat16(),
        "stack": WHOLE,
        "bad": torch.tensor([1.0, float("nan")]),
    }
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    save_file(tensors, tmp_path / "model.safetensors")
    return tmp_path


def inputs(model: Path) -> tuple[mergecore.Checkpoint, dict[str, TensorInput]]:
    opened = mergecore.planner().open(str(model))
    return opened, {name: TensorInput(0, one) for name, one in opened.tensors.items()}


def test_tensors_of_any_shape_are_read_whole_and_row_by_row(model: Path) -> None:
    opened, tensors = inputs(model)
    with mergecore.open_tensors([opened], tensors) as found:
        assert {*found} == {*tensors}
        assert len(found) == 5
        assert torch.equal(found["one"].whole(), torch.tensor(5.0))
        assert torch.equal(found["row"].read(2, 5, torch.int64), torch.tensor([2, 3, 4]))
        assert found["matrix"].dtype == torch.bfloat16
        assert torch.equal(found["matrix"].read(1, 3), WHOLE[0, 1:3])
        assert torch.equal(found["stack"].read(1, 2), WHOLE[1:2])
        assert torch.equal(found["stack"].whole(), WHOLE)
        assert found["stack"].known.tolist() == [True, True]


def test_what_is_not_finite_is_told_on_request(model: Path) -> None:
    opened, tensors = inputs(model)
    with mergecore.open_tensors([opened], tensors) as found:
        bad = found["bad"]
        bad.read(0, 2)
        with pytest.raises(InputError, match="1 value is not finite") as caught:
            bad.raise_faults()
        assert caught.value.code == "E234"
    with mergecore.open_tensors([opened], tensors, allow_nonfinite=True) as found:
        assert found["bad"].whole().isnan().tolist() == [False, True]


def test_a_file_that_has_changed_since_it_was_opened_is_an_error(model: Path) -> None:
    opened, tensors = inputs(model)
    os.utime(model / "model.safetensors", ns=(1, 1))
    with (
        mergecore.open_tensors([opened], tensors) as found,
        pytest.raises(InputError, match="the file changed after the merge was planned"),
    ):
        found["row"].read(0, 1)
