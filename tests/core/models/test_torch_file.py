"""Files of torch.save: tensors are found where torch finds them, and no pickle is ever run."""

from __future__ import annotations

import collections
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from mergecore import merge
from mergecore.errors import MergecoreError
from mergecore.models.torch_files import archive as archive_module
from mergecore.models.torch_files import walking
from mergecore.models.torch_files.archive import read_torch

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


def saved(path: Path, value: Any, **options: Any) -> Path:
    torch.save(value, path, **options)
    return path


def numbers(path: Path) -> dict[str, torch.Tensor]:
    """The tensors, read as the reader describes them."""
    found, _ = read_torch(path, "a.bin")
    data = path.read_bytes()
    made = {}
    for one in found:
        dtype = DTYPES[one.dtype]
        count = torch.Size(one.shape).numel()
        raw = bytearray(data[one.offset : one.offset + count * dtype.itemsize])
        flat = torch.frombuffer(raw, dtype=dtype) if raw else torch.empty(0, dtype=dtype)
        made[one.name] = flat.view(one.shape)
    return made


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_tensors_are_where_torch_finds_them(protocol: int, tmp_path: Path) -> None:
    whole = torch.arange(24, dtype=torch.float32).view(6, 4)
    values = {f"{dtype}": torch.arange(7).to(dtype) for dtype in DTYPES.values()}
    values |= {"none": torch.empty(0, 3), "one": torch.tensor(3.5)}
    values |= {
        "rows": whole[2:4],
        "twin": whole,
        "grown": torch.nn.Parameter(torch.ones(2, 2)),
        "thin": whole[:1].T,
    }
    values |= {f"further.{i}": torch.full((2,), float(i)) for i in range(300)}
    values["thin"] = whole[:, :1][:1]
    path = saved(tmp_path / "a.bin", collections.OrderedDict(values), pickle_protocol=protocol)
    found = numbers(path)
    assert found.keys() == values.keys()
    assert all(torch.equal(found[name], one.detach()) for name, one in values.items())


def test_an_empty_tensor_may_begin_anywhere(tmp_path: Path) -> None:
    """Columns 2 to 5 of no rows: torch saves them as nothing from element 2 on."""
    path = saved(tmp_path / "x.pt", {"x": torch.ones(0, 9)[:, 2:5], "y": torch.ones(2)})
    document = {"merge_method": "passthrough", "models": [{"model": str(path)}]}
    merge(document, tmp_path / "out")
    found = load_file(tmp_path / "out/model.safetensors")
    assert {name: tuple(one.shape) for name, one in found.items()} == {"x": (0, 3), "y": (2,)}


def test_the_state_of_a_module_is_read(tmp_path: Path) -> None:
    """It has attributes of its own beside the tensors."""
    state = torch.nn.Linear(3, 2).state_dict()
    assert numbers(saved(tmp_path / "a.bin", state)).keys() == {"weight", "bias"}


def refused(path: Path, code: str, *told: str) -> None:
    with pytest.raises(MergecoreError) as caught:
        read_torch(path, "a.bin")
    assert caught.value.code == code, caught.value
    assert all(one in str(caught.value) for one in ("a.bin", *told)), caught.value


class Runs:
    """Runs a command when it is unpickled."""

    def __init__(self, called: Callable[..., Any], *given: Any) -> None:
        self._made = (called, given)

    def __reduce__(self) -> Any:
        return self._made


@pytest.mark.parametrize(
    ("value", "named"),
    [
        (Runs(os.system, "touch HIT"), "posix.system"),
        (Runs(eval, "open('HIT', 'w')"), ".eval'"),
        (Runs(getattr, "os", "system"), ".getattr'"),
        (
            Runs(torch.load, "x"),
            "the pickle asks for 'torch.serialization.load', which does not belong to a tensor",
        ),
        (torch.nn.Linear(2, 2), "torch.nn.modules.linear.Linear"),
        ({"a": {1, 2}}, "the pickle asks for"),
        ({"a": torch.eye(2).to_sparse()}, "_rebuild_sparse_tensor"),
        (
            Runs(collections.OrderedDict, [("a", 1)]),
            "the pickle makes more than tensors (of collections.OrderedDict)",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("protocol", [2, 4])
def test_what_asks_for_more_than_tensors_is_refused_and_not_run(
    value: Any, named: str, protocol: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = archive(
        tmp_path / "a.bin", pickle.dumps({"w": value} if isinstance(value, Runs) else value, protocol)
    )
    if isinstance(value, (dict, torch.nn.Module)):
        torch.save(value, path, pickle_protocol=protocol)
    refused(path, "E304", named)
    assert not (tmp_path / "HIT").exists()


def archive(path: Path, data: bytes, packed: int = zipfile.ZIP_STORED, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w", packed) as file:
        file.writestr("x/data.pkl", data)
        for name, one in members.items():
            file.writestr(f"x/data/{name.lstrip('_')}", one)
    return path


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def sizes(values: tuple[int, ...]) -> bytes:
    return b"(" + b"".join(b"\x8a\x08" + struct.pack("<q", one) for one in values) + b"t"


def tensor(
    count: int = 2, start: int = 0, shape: tuple[int, ...] = (2,), strides: tuple[int, ...] = (1,)
) -> bytes:
    """A pickle of one tensor `w` over the storage "0", written by hand."""
    storage = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text("0") + text("cpu")
    storage += b"J" + struct.pack("<i", count) + b"tQ"
    hooks = b"\x89ccollections\nOrderedDict\n)R"
    view = storage + b"\x8a\x08" + struct.pack("<q", start) + sizes(shape) + sizes(strides) + hooks
    return b"\x80\x02}" + text("w") + b"ctorch._utils\n_rebuild_tensor_v2\n(" + view + b"tRs."


TWO = struct.pack("<2f", 1.0, 2.0)


def test_a_pickle_written_by_hand_is_read(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.bin", tensor(), _0=TWO)
    assert numbers(path)["w"].tolist() == [1.0, 2.0]


@pytest.mark.parametrize(
    ("data", "code", "told"),
    [
        (tensor(shape=(2, 1), strides=(1, 5)), None, ""),
        (tensor(count=3), "E205", "its 3 numbers need 12 bytes, the file has 8 bytes"),
        (tensor(shape=(3,)), "E205", "goes beyond its 2 numbers"),
        (tensor(start=1), "E205", "goes beyond its 2 numbers"),
        (tensor(start=-1), "E202", "the pickle is damaged. Hint: copy it again, or save it as safetensors"),
        (
            tensor(shape=(-2,)),
            "E202",
            "the pickle is damaged. Hint: copy it again, or save it as safetensors",
        ),
        (
            tensor(strides=(0,)),
            "E205",
            "it is not contiguous (shape [2]). Hint: make it contiguous and save it again",
        ),
        (tensor(strides=(1, 1)), "E205", "it is not contiguous"),
        (tensor(shape=(2**62, 2**62), strides=(2**62, 1)), "E205", "goes beyond"),
        (tensor(shape=(0, 2**62), strides=(1, 1)), None, ""),
        (
            tensor(shape=(1,) * 65, strides=(1,) * 65),
            "E202",
            "the pickle is damaged. Hint: copy it again, or save it as safetensors",
        ),
        (tensor()[:-1], "E202", "the pickle is damaged. Hint: copy it again, or save it as safetensors"),
        (
            tensor()[:-3] + b".",
            "E202",
            "the pickle is damaged. Hint: copy it again, or save it as safetensors",
        ),
        (b"\x80\x02.", "E202", "the pickle is damaged. Hint: copy it again, or save it as safetensors"),
        (b"", "E202", "the pickle is damaged. Hint: copy it again, or save it as safetensors"),
        (b"\x80\x02}.", "E201", "no tensors"),
        (b"\x80\x02K\x01.", "E202", "no tensors by name"),
        (b"\x80\x02}" + text("step") + b"K\x01s.", "E202", "the pickle holds more than tensors: 'step'"),
        (b"\x80\x02}" + text("a") + b"}s.", "E202", "the pickle holds more than tensors: 'a'"),
        (
            b"\x80\x02\xff\xff.",
            "E202",
            "the pickle is damaged. Hint: copy it again, or save it as safetensors",
        ),
        (
            b"X\xff\xff\xff\xff",
            "E202",
            "the pickle is damaged. Hint: copy it again, or save it as safetensors",
        ),
        (b"\x80\x02]r\xff\xff\xff\x7f.", "E202", "no tensors by name"),
        (
            b"\x80\x02}" + b"h\x09.",
            "E202",
            "the pickle is damaged. Hint: copy it again, or save it as safetensors",
        ),
        (
            b"\x80\x02}}K\x01s" + b"s.",
            "E202",
            "the pickle is damaged. Hint: copy it again, or save it as safetensors",
        ),
        (b"\x80\x02ta.", "E202", "the pickle is damaged. Hint: copy it again, or save it as safetensors"),
        (
            b"\x80\x02K\x01K\x02a.",
            "E202",
            "the pickle is damaged. Hint: copy it again, or save it as safetensors",
        ),
        (b"cos\nsystem\n(S'x'\ntR.", "E304", "os.system"),
        (b"(S'x'\nios\nsystem\n.", "E304", "STRING"),
        (b"(ios\nsystem\n.", "E304", "INST"),
        (b"\x80\x04\x8c\x02os\x8c\x06system\x93.", "E304", "os.system"),
        (b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n}b.", "E304", "sets the state"),
        (b"\x80\x02\x82\x01.", "E304", "EXT1"),
        (b"\x80\x02ccollections\nOrderedDict\n)\x81.", "E304", "NEWOBJ"),
        # a tuple in a tuple, twice each time: as a key it would take for ever
        (
            b"\x80\x02})q\x00" + b"h\x00h\x00\x86q\x00" * 80 + b"K\x01s.",
            "E202",
            "the pickle is damaged. Hint: copy it again, or save it as safetensors",
        ),
        (
            b"\x80\x02)q\x00" + b"h\x00h\x00\x86q\x00" * 80 + b".",
            "E202",
            "the pickle is damaged. Hint: copy it again, or save it as safetensors",
        ),
        (b"\x80\x02]q\x00h\x00a.", "E202", "no tensors by name"),
    ],
)
def test_damaged_and_hostile_pickles_are_refused(
    data: bytes, code: str | None, told: str, tmp_path: Path
) -> None:
    path = archive(tmp_path / "a.bin", data, _0=TWO)
    if code is None:
        read_torch(path, "a.bin")
    else:
        refused(path, code, told)


def test_steps_beyond_all_measure_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walking, "MAX_STEPS", 1000)
    refused(
        archive(tmp_path / "a.bin", b"\x80\x02" + b"}" * 2000 + b"."),
        "E308",
        "the pickle has more than 1000 steps",
    )
    refused(
        archive(tmp_path / "a.bin", b"\x80\x02" + b"}" * 2**24 + b"."),
        "E308",
        "limit 16777216. Hint: save it as safetensors",
    )


def test_archives_that_torch_does_not_write_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    refused(
        archive(path, tensor(), zipfile.ZIP_DEFLATED, _0=TWO),
        "E202",
        "is compressed; torch.save leaves its members as they are",
        "save it again with torch, or as safetensors",
    )
    refused(archive(path, tensor()), "E205", "the file has nothing")
    refused(archive(path, tensor(), _1=TWO), "E205", "the file has nothing")
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("model.txt", "x")
    refused(path, "E202", "without tensors of torch.save")
    archive(path, tensor(), _0=TWO)
    with zipfile.ZipFile(path, "a") as file, pytest.warns(UserWarning, match="Duplicate name"):
        file.writestr("x/data/0", TWO)
    refused(path, "E202", "two members are called 'x/data/0'")
    archive(path, tensor(), _0=TWO)
    with zipfile.ZipFile(path, "a") as file:
        file.writestr("x/byteorder", "big")
    refused(path, "E202", "its numbers are not little-endian")


def test_a_list_of_members_beyond_all_measure_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive_module, "MAX_DIRECTORY", 60)
    refused(archive(tmp_path / "a.bin", tensor(), _0=TWO), "E308", "the list of its members has", "limit 60")


def test_members_over_one_another_are_refused(tmp_path: Path) -> None:
    """The list says that one begins inside the other."""
    path = archive(tmp_path / "a.bin", tensor(), _0=TWO)
    data = bytearray(path.read_bytes())
    second = data.rfind(b"PK\x01\x02")
    data[second + 42 : second + 46] = struct.pack("<I", 40)
    path.write_bytes(data)
    refused(path, "E206", "the members 'x/data.pkl' and 'x/data/0' overlap")


def test_pickles_without_an_archive_are_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.bin", {"a": torch.ones(2)}, _use_new_zipfile_serialization=False)
    refused(path, "E303", "which can run code")
    path.write_bytes(b"")
    refused(path, "E202", "empty file")
    path.write_bytes(b"GIF89a")
    refused(path, "E202", "not a torch.save file")


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    whole = saved(tmp_path / "a.bin", {"a": torch.ones(2)}).read_bytes()
    path = tmp_path / "cut.bin"
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        with pytest.raises(MergecoreError):
            read_torch(path, "a.bin")


def test_every_flipped_byte_is_read_or_refused(tmp_path: Path) -> None:
    """Never another exception, whatever the bytes say."""
    whole = bytearray(archive(tmp_path / "a.bin", tensor(), _0=TWO).read_bytes())
    path = tmp_path / "flipped.bin"
    for at in range(len(whole)):
        for byte in (0, 0xFF, whole[at] ^ 1):
            path.write_bytes(whole[:at] + bytes([byte]) + whole[at + 1 :])
            try:
                found, _ = read_torch(path, "a.bin")
            except MergecoreError:
                continue
            assert all(one.offset + 4 * torch.Size(one.shape).numel() <= len(whole) for one in found)


def drawn(random: Random, depth: int, seen: list[Any]) -> Any:
    """A value of what pickles of checkpoints hold; some parts of it stand there more than once."""
    if seen and random.random() < 0.15:
        return random.choice(seen)
    if depth == 0 or random.random() < 0.4:
        numbers = (0, -1, 255, 256, 65536, -(2**31), 2**40, -(2**63), 1.5, float("inf"))
        return random.choice((*numbers, True, False, None, "a", "é", "x" * 300, ""))
    parts = [drawn(random, depth - 1, seen) for _ in range(random.randrange(5))]
    keys = random.sample(["a", "b", 1, -5, 2**33], min(5, len(parts)))
    kinds = (parts, tuple(parts), dict(zip(keys, parts, strict=False)))
    seen.append(random.choice(kinds))
    return seen[-1]


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_a_pickle_means_what_it_means_to_python(protocol: int) -> None:
    for seed in range(300):
        value = drawn(Random(seed), 4, [])
        found = walking.walked(pickle.dumps(value, protocol), "a.bin", walking.Allowed())
        assert repr(found) == repr(value), seed
