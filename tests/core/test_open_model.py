"""Looking into a model from Python, without merging it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from tiny import write_llama

import mergecore
from mergecore import InputError


@pytest.fixture
def model(tmp_path: Path) -> Path:
    write_llama(tmp_path / "m", 2, seed=1)
    return tmp_path / "m"


def test_a_tensor_is_read_in_three_lines(model: Path) -> None:
    with mergecore.open_model(model) as opened:
        rows = opened["model.embed_tokens.weight"].read(1, 3)
    from safetensors.torch import load_file

    wanted = load_file(model / "model.safetensors")
    assert torch.equal(rows, wanted["model.embed_tokens.weight"][1:3].float())
    with mergecore.open_model(str(model)) as opened:
        assert {*opened} == {*wanted}
        assert len(opened) == len(wanted)
        assert opened["model.norm.weight"].shape == tuple(wanted["model.norm.weight"].shape)
        assert torch.equal(opened["model.norm.weight"].whole(), wanted["model.norm.weight"])
        assert opened.checkpoint.config["model_type"] == "llama"


def test_nothing_is_read_before_it_is_asked_for(tmp_path: Path) -> None:
    """A file whose numbers are a hole of 1 GB opens at once, and one row of it is read."""
    save_file({"w": torch.zeros(2, 4)}, tmp_path / "small.safetensors")
    raw = (tmp_path / "small.safetensors").read_bytes()
    rows, width = 2**20, 256
    size = rows * width * 4
    text = raw[8 : 8 + int.from_bytes(raw[:8], "little")].decode()
    text = text.replace("[2,4]", f"[{rows},{width}]").replace("[0,32]", f"[0,{size}]").strip()
    header = text.encode().ljust(-(-len(text) // 8) * 8)
    with (tmp_path / "large.safetensors").open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.truncate(8 + len(header) + size)
    with mergecore.open_model(tmp_path / "large.safetensors") as opened:
        assert opened["w"].shape == (rows, width)
        assert opened["w"].read(rows - 1, rows).tolist() == [[0.0] * width]


def test_numbers_that_are_not_finite_are_shown(tmp_path: Path) -> None:
    save_file({"w": torch.tensor([1.0, torch.nan])}, tmp_path / "m.safetensors")
    with mergecore.open_model(tmp_path / "m.safetensors") as opened:
        found = opened["w"]
        assert found.read(0, 2).isnan().tolist() == [False, True]
        found.raise_faults()


def test_a_name_that_the_model_lacks_is_a_key_error_that_helps(model: Path) -> None:
    with (
        mergecore.open_model(model) as opened,
        pytest.raises(
            KeyError, match=r"has no tensor 'model\.norm\.weigth'; did you mean 'model\.norm\.weight'\?"
        ),
    ):
        opened["model.norm.weigth"]


def test_a_model_that_is_not_there_is_an_error() -> None:
    with (
        pytest.raises(InputError),
        mergecore.open_model("./nowhere", options=mergecore.PlanOptions(offline=True)),
    ):
        pass
