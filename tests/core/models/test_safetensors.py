"""The strict header check: what is refused, with which words, and what is let through."""

from __future__ import annotations

import json
import os
import socket
import struct
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load, save

from mergecore.errors import MergecoreError, Problems
from mergecore.models.safetensors import parse_header, read_header
from mergecore.types import Stored

Header = dict[str, Any]


def entry(begin: int, end: int, shape: list[Any], dtype: str = "F32") -> Header:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def two_tensors() -> Header:
    """`a` has 2 x 3 and `b` 4 elements of four bytes: 40 bytes of data."""
    return {"__metadata__": {"format": "pt"}, "a": entry(0, 24, [2, 3]), "b": entry(24, 40, [4])}


def file_of(header: Header | bytes, data: int | bytes = 40, length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    body = data if isinstance(data, bytes) else bytes(data)
    return struct.pack("<Q", len(text) if length is None else length) + text + body


def changed(change: Callable[[Header], object]) -> bytes:
    header = two_tensors()
    change(header)
    return file_of(header)


def refusal(content: bytes, tmp_path: Path) -> MergecoreError:
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    with pytest.raises(MergecoreError) as caught:
        read_header(path, "m/x.safetensors")
    return caught.value


def test_tensors_come_in_the_order_of_their_bytes_with_absolute_offsets(tmp_path: Path) -> None:
    header = {"late": entry(4, 12, [2], "F32"), "early": entry(0, 4, [2], "BF16")}
    content = file_of(header, 12)
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    tensors, file = read_header(path)
    data = len(content) - 12
    assert [(one.name, one.dtype, one.shape) for one in tensors] == [
        ("early", "BF16", (2,)),
        ("late", "F32", (2,)),
    ]
    assert [one.offset for one in tensors] == [data, data + 4]
    assert {one.file for one in tensors} == {path}
    status = path.stat()
    assert (file.path, file.size) == (path, len(content))
    assert file.header_sha256 == sha256(content[:data]).hexdigest()
    assert file.stamp == (status.st_dev, status.st_ino, status.st_mtime_ns, status.st_ctime_ns)


def test_files_of_the_reference_writer_are_read_byte_by_byte(tmp_path: Path) -> None:
    numbers = np.arange(6, dtype=np.float16).reshape(2, 3)
    arrays = {"x": numbers, "s": np.array(3.0), "z": np.ones((0, 4))}
    content = save(arrays, {"format": "pt"})
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    tensors, _ = read_header(path)
    for tensor in tensors:
        stored = arrays[tensor.name]
        assert tensor.shape == stored.shape
        assert content[tensor.offset :][: stored.nbytes] == stored.tobytes()


@pytest.mark.parametrize(
    "header",
    [
        {"a": entry(0, 16, [4])},  # without metadata
        {"a": entry(0, 0, [0, 7]), "b": entry(0, 16, [4])},  # an empty tensor shares its offset
        {"a": entry(0, 0, [2**50, 0]), "b": entry(0, 16, [1] * 63 + [4])},  # 64 dimensions
        {"a": entry(0, 16, [32], "F4")},  # four bits each
        {"a": entry(0, 12, [16], "F6_E2M3"), "b": entry(12, 16, [4], "U8")},
        {"a": entry(4, 16, [3]), "b": entry(0, 4, [])},  # a scalar; names in another order than bytes
        {"a": entry(0, 16, [2], "C64")},
    ],
)
def test_unusual_but_sound_headers_are_accepted(header: Header, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(file_of(json.dumps(header).encode() + b"   ", 16))
    tensors, _ = read_header(path)
    assert {one.name for one in tensors} == set(header)


LENGTHS = [
    (b"", "E202", r"^m/x\.safetensors: empty file \(0 bytes\)\. Hint: download or copy it again$"),
    (b"\1" * 5, "E202", r"only 5 bytes, need at least 8"),
    (struct.pack("<Q", 2**63) + b"{}", "E308", r"header length 9223372036854775808 .*limit 100000000"),
    (
        struct.pack("<Q", 100_000_001) + b"{}",
        "E308",
        r"length 100000001 exceeds the limit 100000000.*; is it a safetensors file\?",
    ),
    (
        file_of(two_tensors(), length=4000),
        "E202",
        r"length 4000, but the file has only \d+ bytes.*: it is damaged, or no",
    ),
    (struct.pack("<Q", 0), "E202", r"header length 0, but of 8 bytes, need at least 2"),
]

KINDS = [
    (b"GGUF\3\0\0\0" + bytes(50), r"a GGUF file"),
    (b"PK\3\4" + bytes(60), r"a zip archive.*pytorch_model\.bin"),
    (b"7z\xbc\xaf\x27\x1c" + bytes(60), r"a 7-Zip archive"),
    (b"<!DOCTYPE html><html></html>" + bytes(20), r"an HTML page.*download it again"),
    (b"\n <html lang=en>", r"an HTML page"),
    (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", r"a git-LFS pointer.*git lfs pull"),
    (b'{"error":"Repository not found"}', r"a message of a server"),
    (b"Entry not found", r"a text file"),
    (b"\x80\x02}q\0." + bytes(20), r"a pickle.*if you trust it"),
    (b"\x89HDF\r\n\x1a\n" + bytes(20), r"an HDF5 file"),
    (b"\x93NUMPY\1\0" + bytes(20), r"a NumPy file"),
    (b"\x1f\x8b\x08" + bytes(20), r"a gzip file"),
    (bytes(257) + b"ustar" + bytes(300), r"a tar archive"),
]

TEXTS = [
    (b"{no json", "E203", r"header is not valid JSON.*byte \d+"),
    (b'{"a":1', "E203", r"header is not valid JSON.*byte 6"),
    (b"[1, 2]", "E203", r"header must be a JSON object, found \[1, 2\]"),
    (b'"text"  ', "E203", r"header must be a JSON object"),
    (b"\t{}", "E203", r"header must begin with '\{', found '\\+t'"),
    (b"\xef\xbb\xbf{}", "E203", r"header must begin with '\{', found a byte order mark"),
    (b"{}\n", "E203", r"may end in blanks only, found '\\+n' at byte 2"),
    (b"{}\0\0", "E203", r"not valid JSON"),
    (b'{"a\xfe":1}', "E203", r"not UTF-8 at byte 3"),
    (b'{"a":NaN}', "E203", r"NaN is not JSON"),
    (b'{"a":-Infinity}', "E203", r"-Infinity is not JSON"),
    (b'{"a":' + b"[" * 5000 + b"]" * 5000 + b"}", "E308", r"nested deeper than \d+"),
    (b"{}", "E201", r"contains no tensors"),
    (b'{"__metadata__":{"format":"pt"}}', "E201", r"contains no tensors"),
    (b'{"__metadata__":{"n":1},"a":{}}', "E203", r"__metadata__: 'n' must be a string, found 1"),
    (b'{"__metadata__":[]}', "E203", r"__metadata__ must be an object of strings, found \[\]"),
    (b'{"a":{"shape":[0],"shape":[1]}}', "E203", r"'shape' occurs twice"),
    (b'{"a":{},"b":{},"a":{}}', "E204", r"tensor 'a' occurs twice"),
    (b'{"a":7}', "E205", r"tensor 'a': must be an object, found 7"),
]


def field(tensor: str = "b", **values: object) -> Callable[[Header], object]:
    return lambda header: header[tensor].update(values)


TENSORS = [
    (lambda h: h["b"].pop("dtype"), "E205", r"tensor 'b': missing field 'dtype'"),
    (lambda h: h["b"].pop("data_offsets"), "E205", r"tensor 'b': missing field 'data_offsets'"),
    (field(colour="red"), "E205", r"tensor 'b': unknown field 'colour'"),
    (field(dtype="Q7"), "E207", r"tensor 'b': dtype 'Q7' is not known; known are F64,"),
    (field(dtype=None), "E207", r"tensor 'b': dtype null is not known"),
    (field(shape=4), "E205", r"shape must be a list, found 4"),
    (field(shape=[-4]), "E205", r"dimension -4 is negative"),
    (field(shape=[4.0]), "E205", r"shape: 4\.0 is not an integer"),
    (field(shape=[True, 4]), "E205", r"shape: true is not an integer"),
    (field(shape=[2**40, 2**40]), "E205", r"overflow"),
    (field(shape=[2**62, 2**62, 0]), "E205", r"overflow"),
    (field(shape=[1] * 64 + [4]), "E308", r"65 dimensions, limit 64"),
    (field(shape=[5]), "E205", r"F32 of shape \[5\] needs 20 bytes, its range has 16"),
    (field(dtype="F4", shape=[31]), "E205", r"124 bits, not a whole number of bytes"),
    (field(data_offsets=[40, 24]), "E205", r"begin 40 > end 24"),
    (field(data_offsets=[24]), "E205", r"must be a list of two numbers, found \[24\]"),
    (field(data_offsets=[24, "40"]), "E205", r'data_offsets: "40" is not an integer'),
    (field(data_offsets=[-16, 0]), "E205", r"data_offsets \[-16, 0\] out of range"),
    (field(data_offsets=[24, 2**64]), "E205", r"out of range"),
    (field(data_offsets=[8, 24]), "E206", r"'b' overlaps 'a': it begins at byte \d+, 'a' ends at byte \d+"),
    (field(data_offsets=[0, 16]), "E206", r"tensor 'a' overlaps 'b'"),
    (field(data_offsets=[25, 41]), "E206", r"tensor 'b' leaves a hole of 1 bytes"),
    (field("a", dtype="F16", data_offsets=[12, 24]), "E206", r"tensor 'a' leaves a hole of 12 bytes"),
    (lambda h: h.update({"": entry(40, 40, [0])}), "E208", r"empty tensor name"),
    (lambda h: h.update({"x\n": entry(40, 40, [0])}), "E208", r"tensor 'x\\n': control character"),
    (
        lambda h: h.update({"\u00fc": entry(40, 40, [0]), "u\u0308": entry(40, 40, [0])}),
        "E208",
        r"names '\\xfc' and 'u\\u0308' differ only in Unicode form",
    ),
]


@pytest.mark.parametrize(("content", "code", "text"), LENGTHS)
def test_a_false_length_is_refused_with_both_numbers(
    content: bytes, code: str, text: str, tmp_path: Path
) -> None:
    error = refusal(content, tmp_path)
    assert error.code == code
    assert_matches(error, text)


@pytest.mark.parametrize(("content", "text"), KINDS)
def test_a_file_of_another_kind_is_named_with_its_cure(content: bytes, text: str, tmp_path: Path) -> None:
    error = refusal(content, tmp_path)
    assert error.code == "E202"
    assert_matches(error, "not a safetensors file but " + text)


@pytest.mark.parametrize(("text", "code", "message"), TEXTS)
def test_a_header_that_is_no_strict_json_object_is_refused(
    text: bytes, code: str, message: str, tmp_path: Path
) -> None:
    error = refusal(file_of(text, 0), tmp_path)
    assert error.code == code
    assert_matches(error, message)


@pytest.mark.parametrize(("change", "code", "message"), TENSORS)
def test_a_tensor_that_contradicts_itself_or_its_neighbours_is_refused(
    change: Callable[[Header], object], code: str, message: str, tmp_path: Path
) -> None:
    error = refusal(changed(change), tmp_path)
    assert error.code == code
    assert_matches(error, message)


def test_a_truncated_file_says_how_much_is_missing(tmp_path: Path) -> None:
    size = len(file_of(two_tensors()))
    error = refusal(file_of(two_tensors(), 33), tmp_path)
    assert error.code == "E206"
    assert_matches(
        error,
        rf"truncated: expected {size} bytes, found {size - 7} \(7 missing\)\. Hint: download or copy it again",
    )


def test_trailing_bytes_are_counted(tmp_path: Path) -> None:
    size = len(file_of(two_tensors()))
    error = refusal(file_of(two_tensors(), 45), tmp_path)
    assert error.code == "E206"
    assert_matches(
        error, rf"5 trailing bytes: expected {size} bytes, found {size + 5}\. Hint: download or copy it again"
    )


def test_all_bad_tensors_of_a_file_are_told_at_once_but_not_thousands(tmp_path: Path) -> None:
    error = refusal(file_of({f"t{i}": entry(0, 4, [-1]) for i in range(500)}, 4), tmp_path)
    assert isinstance(error, Problems)
    assert len(error.errors) == 10
    assert all(one.tensor == f"t{i}" for i, one in enumerate(error.errors))


def test_only_regular_files_are_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path)  # the name of a socket must be short
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket")
    kinds = {"pipe": "fifo", "folder": "directory", "socket": "socket"}
    for name, kind in kinds.items():
        with pytest.raises(MergecoreError, match=rf"m/x: not a regular file \({kind}\)") as caught:
            read_header(tmp_path / name, "m/x")
        assert (caught.value.code, caught.value.exit_code) == ("E309", 4)


def test_links_in_a_circle_and_missing_files_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(MergecoreError, match="cannot be read: too many levels of symbolic links") as caught:
        read_header(tmp_path / "loop")
    assert (caught.value.code, caught.value.exit_code) == ("E236", 3)
    with pytest.raises(MergecoreError, match="cannot be read: no such file or directory"):
        read_header(tmp_path / "absent")


def test_a_file_that_shrinks_while_its_header_is_read_is_noticed() -> None:
    whole = file_of(two_tensors())
    with pytest.raises(MergecoreError, match="became shorter while its header was read") as caught:
        parse_header(lambda offset, count: whole[:60][offset:][:count], len(whole), Path("x"), "m/x")
    assert caught.value.code == "E235"


def test_a_long_header_is_read_in_two_parts() -> None:
    header = {f"tensor.{i:05}": entry(4 * i, 4 * i + 4, [1]) for i in range(3000)}
    whole = file_of(header, 12_000)
    asked = []

    def read(offset: int, count: int) -> bytes:
        asked.append((offset, count))
        return whole[offset : offset + count]

    tensors, _ = parse_header(read, len(whole), Path("x"), "m/x")
    assert len(tensors) == 3000
    assert len(asked) == 2
    assert sum(count for _, count in asked) == len(whole) - 12_000


SAMPLE = save(
    {
        "model.a": np.zeros((2, 3), np.float32),
        "model.b\u00e9": np.zeros(5, np.float16),
        "c": np.zeros((), np.int64),
    },
    {"format": "pt"},
)
FLIPS = st.lists(st.tuples(st.integers(0, len(SAMPLE) - 1), st.integers(1, 255)), min_size=1, max_size=4)


@given(FLIPS)
@example([(8, 0x5B)])
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_flipped_bytes_give_a_clean_error_or_a_sound_header(flips: list[tuple[int, int]]) -> None:
    content = bytearray(SAMPLE)
    for position, mask in flips:
        content[position] ^= mask
    check_against_reference(bytes(content))


@given(st.integers(0, len(SAMPLE)), st.binary(max_size=12))
@settings(max_examples=100, deadline=None)
def test_cut_and_lengthened_files_give_a_clean_error(cut: int, tail: bytes) -> None:
    if cut < len(SAMPLE) or tail:
        check_against_reference(SAMPLE[:cut] + tail)


def check_against_reference(content: bytes) -> None:
    """Whatever is accepted here, the reference reader accepts too and understands in the same way."""
    found = outcome(content)
    if isinstance(found, MergecoreError):
        assert all(error.exit_code in (3, 4) for error in getattr(found, "errors", [found]))
        assert str(found).isprintable()
        return
    data = 8 + int.from_bytes(content[:8], "little")
    assert sum(nbytes(one.shape, one.dtype) for one in found) == len(content) - data
    if not {one.dtype for one in found} & UNKNOWN_TO_NUMPY:
        shapes = {name: array.shape for name, array in load(content).items()}
        assert shapes == {one.name: one.shape for one in found}


def outcome(content: bytes) -> tuple[Stored, ...] | MergecoreError:
    try:
        return parse_header(lambda o, n: content[o : o + n], len(content), Path("x"), "m/x")[0]
    except MergecoreError as error:
        return error


BITS = {"F4": 4, "F6_E2M3": 6, "F6_E3M2": 6}
UNKNOWN_TO_NUMPY = {"F4", "F6_E2M3", "F6_E3M2", "BF16", "C64"} | {
    f"F8_{kind}" for kind in ("E4M3", "E5M2", "E4M3FNUZ", "E5M2FNUZ", "E8M0")
}


def nbytes(shape: tuple[int, ...], dtype: str) -> int:
    digits = "".join(char for char in dtype.removeprefix("B").split("_")[0] if char.isdigit())
    bits = BITS.get(dtype) or (8 if dtype == "BOOL" else int(digits))
    return int(np.prod(shape, dtype=object)) * bits // 8


def assert_matches(error: MergecoreError, text: str) -> None:
    with pytest.raises(MergecoreError, match=text):
        raise error
