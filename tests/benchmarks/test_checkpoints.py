"""The generator of Llama-shaped checkpoints."""

import json
from pathlib import Path

import click
import pytest
import torch
from benchmarks.checkpoints import LlamaShape, parse_count, shape_for, split_into_shards, write_set
from safetensors import safe_open
from safetensors.torch import load_file

SHAPE = LlamaShape(hidden=8, intermediate=12, layers=2, heads=2, key_value_heads=1, vocabulary=30, tied=False)


@pytest.mark.parametrize(
    ("text", "count"), [("135M", 135_000_000), ("1.2B", 1_200_000_000), ("70b", 70_000_000_000), ("512", 512)]
)
def test_a_count_is_read_with_its_unit(text: str, count: int) -> None:
    assert parse_count(text) == count


@pytest.mark.parametrize("text", ["", "B", "many", "-1B", "0"])
def test_a_count_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter, match="is not a number of parameters"):
        parse_count(text)


def test_parameters_are_counted_by_hand() -> None:
    # A layer: two norms of 8, q and o 8x8, k and v 4x8, gate and up 12x8, down 8x12 = 16 + 128 + 64 + 288 = 496.
    # Embedding and head 30x8 each, final norm 8: 488.
    assert SHAPE.parameters() == 2 * 496 + 488


@pytest.mark.parametrize("text", ["0.2M", "0.1B", "1.2B", "8B", "70B"])
def test_a_size_is_reached_and_not_passed_by_more_than_a_layer(text: str) -> None:
    wanted = parse_count(text)
    shape = shape_for(wanted)
    layer = sum(
        torch.Size(dims).numel()
        for name, dims in shape.tensors().items()
        if name.startswith("model.layers.0.")
    )
    assert wanted <= shape.parameters() < wanted + layer


def test_a_set_opens_in_safetensors_with_the_promised_tensors(tmp_path: Path) -> None:
    made = write_set(tmp_path, SHAPE, models=2)
    assert [folder.name for folder in made.folders] == ["base", "model-1", "model-2"]
    for folder in made.folders:
        tensors = load_file(folder / "model.safetensors")
        assert {name: tuple(tensor.shape) for name, tensor in tensors.items()} == SHAPE.tensors()
        assert {tensor.dtype for tensor in tensors.values()} == {torch.bfloat16}


def test_models_differ_from_the_base_by_the_chosen_amount(tmp_path: Path) -> None:
    made = write_set(tmp_path, shape_for(200_000), models=1, delta_rms=0.005)
    base, model = (load_file(folder / "model.safetensors") for folder in made.folders)
    embedding = "model.embed_tokens.weight"
    assert base[embedding].float().std().item() == pytest.approx(0.02, rel=0.05)
    assert (model[embedding] - base[embedding]).float().square().mean().sqrt().item() == pytest.approx(
        0.005, rel=0.05
    )
    assert base["model.norm.weight"].float().mean().item() == pytest.approx(1.0, abs=0.02)


def test_a_seed_decides_every_byte(tmp_path: Path) -> None:
    one, same, other = (
        (write_set(tmp_path / name, SHAPE, 1, seed).models[0] / "model.safetensors").read_bytes()
        for name, seed in (("one", 5), ("same", 5), ("other", 6))
    )
    assert one == same
    assert one != other


def test_shards_hold_the_same_weights_as_one_file(tmp_path: Path) -> None:
    whole = load_file(write_set(tmp_path / "whole", SHAPE, 1).base / "model.safetensors")
    folder = write_set(tmp_path / "split", SHAPE, 1, shard_bytes=800).base
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == 2 * SHAPE.parameters()
    assert list(index["weight_map"]) == list(SHAPE.tensors())
    assert sorted(set(index["weight_map"].values())) == sorted(
        path.name for path in folder.glob("*.safetensors")
    )
    for name, file in index["weight_map"].items():
        with safe_open(folder / file, framework="pt") as shard:
            assert torch.equal(shard.get_tensor(name), whole[name])


def test_no_shard_is_larger_than_asked_unless_one_tensor_is() -> None:
    for shard in split_into_shards(SHAPE, 300):
        assert shard.size - len(shard.header) <= 300 or len(shard.offsets) == 1


def test_a_sparse_set_has_its_full_size_and_takes_no_space(tmp_path: Path) -> None:
    shape = shape_for(parse_count("0.1B"))
    made = write_set(tmp_path, shape, models=1, sparse=True)
    for folder in made.folders:
        found = (folder / "model.safetensors").stat()
        assert found.st_size > 2 * shape.parameters()
        assert found.st_blocks * 512 < 1_000_000
        with safe_open(folder / "model.safetensors", framework="pt") as file:
            assert set(file.keys()) == set(shape.tensors())


def test_a_finished_set_is_kept_and_another_recipe_is_written_anew(tmp_path: Path) -> None:
    file = write_set(tmp_path, SHAPE, 1).base / "model.safetensors"
    first = file.read_bytes()
    file.write_bytes(b"touched")
    write_set(tmp_path, SHAPE, 1)
    assert file.read_bytes() == b"touched"
    write_set(tmp_path, SHAPE, 1, seed=1)
    assert len(file.read_bytes()) == len(first)
    assert file.read_bytes() != first
