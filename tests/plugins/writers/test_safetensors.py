import json
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import save_file

from mergecore.errors import ConfigError
from mergecore.files.dtypes import DTYPES
from mergecore.types import Layout, OutputTensor
from mergecore_plugins.writers.safetensors import SafetensorsParams, lay_out

NAMES = {dtype.torch_name: dtype.name for dtype in DTYPES.values() if dtype.torch_name}


def laid_out(tensors: dict[str, torch.Tensor], shard_size: int | str = 5_000_000_000) -> Layout:
    outputs = [
        OutputTensor(name, NAMES[str(one.dtype).removeprefix("torch.")], tuple(one.shape))
        for name, one in tensors.items()
    ]
    return lay_out(outputs, SafetensorsParams.model_validate({"shard_size": shard_size}))


def contents(layout: Layout, tensors: dict[str, torch.Tensor]) -> list[bytes]:
    """The files of a layout, filled as the core fills them."""
    files = [bytearray(file.header.ljust(file.size, b"?")) for file in layout.files]
    for name, slot in layout.slots.items():
        data = tensors[name].contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        assert len(data) == slot.nbytes
        files[slot.file][slot.offset : slot.offset + slot.nbytes] = data
    return [bytes(file) for file in files]


def zeros(count: int, size: int) -> list[OutputTensor]:
    return [OutputTensor(f"t{index}", "U8", (size,)) for index in range(count)]


def test_the_file_has_the_bytes_that_save_file_writes(tmp_path: Path) -> None:
    tensors = {
        "z.bf16": torch.arange(6).bfloat16().reshape(2, 3),
        "b.f32": torch.arange(5.0),
        "a.f32": torch.tensor(1.5),
        "empty": torch.zeros(0, 3),
        "f64": torch.ones(2, dtype=torch.float64),
        "f16": torch.ones(3, dtype=torch.float16),
        "i64": torch.arange(3),
        "i8": torch.ones(7, dtype=torch.int8),
        "u8": torch.ones(1, dtype=torch.uint8),
        "mask": torch.tensor([True, False, True]),
        "no.elements": torch.zeros(0, dtype=torch.bool),
        'odd "name" é\\/': torch.zeros(1),
    }
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    assert contents(laid_out(tensors), tensors) == [(tmp_path / "model.safetensors").read_bytes()]


def test_every_dtype_that_torch_has_comes_in_the_order_of_save_file(tmp_path: Path) -> None:
    tensors = {f"t.{name}": torch.zeros(2).to(getattr(torch, name)) for name in NAMES}
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    assert contents(laid_out(tensors), tensors) == [(tmp_path / "model.safetensors").read_bytes()]


def test_a_layout_lists_the_tensors_in_the_order_given() -> None:
    layout = laid_out({"b": torch.zeros(1), "a": torch.zeros(1), "c": torch.zeros(1).double()})
    assert list(layout.slots) == ["b", "a", "c"]


def test_one_file_needs_no_index() -> None:
    layout = lay_out(zeros(2, 10), SafetensorsParams(shard_size=20))
    assert [file.name for file in layout.files] == ["model.safetensors"]
    assert layout.index_files == {}


def test_tensors_are_packed_in_order_up_to_the_shard_size() -> None:
    # 10 + 10 fit into 25, a third does not.
    layout = lay_out(zeros(5, 10), SafetensorsParams(shard_size=25))
    assert [layout.slots[f"t{index}"].file for index in range(5)] == [0, 0, 1, 1, 2]
    assert [file.name for file in layout.files] == [
        "model-00001-of-00003.safetensors",
        "model-00002-of-00003.safetensors",
        "model-00003-of-00003.safetensors",
    ]
    assert json.loads(layout.index_files["model.safetensors.index.json"]) == {
        "metadata": {"total_size": 50},
        "weight_map": {
            "t0": "model-00001-of-00003.safetensors",
            "t1": "model-00001-of-00003.safetensors",
            "t2": "model-00002-of-00003.safetensors",
            "t3": "model-00002-of-00003.safetensors",
            "t4": "model-00003-of-00003.safetensors",
        },
    }


def test_a_tensor_larger_than_a_shard_has_its_own() -> None:
    sizes = {"a": 5, "big": 100, "b": 5, "c": 5}
    tensors = [OutputTensor(name, "U8", (size,)) for name, size in sizes.items()]
    layout = lay_out(tensors, SafetensorsParams(shard_size=10))
    assert [layout.slots[name].file for name in sizes] == [0, 1, 2, 2]


def test_every_shard_has_the_bytes_that_save_file_writes(tmp_path: Path) -> None:
    tensors = {"b": torch.ones(4), "a": torch.ones(4).half(), "c": torch.ones(4)}
    layout = laid_out(tensors, shard_size=24)
    expected = []
    for names in (("b", "a"), ("c",)):
        save_file({name: tensors[name] for name in names}, tmp_path / "shard", {"format": "pt"})
        expected.append((tmp_path / "shard").read_bytes())
    assert contents(layout, tensors) == expected


@pytest.mark.parametrize(
    ("written", "size"),
    [
        (7, 7),
        ("700", 700),
        ("5GB", 5 * 10**9),
        ("500MB", 500 * 10**6),
        ("3k", 3000),
        ("3M", 3 * 10**6),
        ("2GiB", 2**31),
    ],
)
def test_a_shard_size_is_a_number_of_bytes_or_has_a_unit(written: int | str, size: int) -> None:
    assert SafetensorsParams.model_validate({"shard_size": written}).shard_size == size


def test_a_shard_size_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigError, match="'large' is not a size"):
        SafetensorsParams.model_validate({"shard_size": "large"})
    with pytest.raises(ValidationError, match="greater than 0"):
        SafetensorsParams(shard_size=0)


def test_the_header_of_ten_thousand_tensors_is_one_of_valid_json() -> None:
    layout = lay_out(zeros(10_000, 1), SafetensorsParams())
    [file] = layout.files
    assert len(json.loads(file.header[8:])) == 10_001
    assert layout.slots["t9999"].offset == file.size - 1
