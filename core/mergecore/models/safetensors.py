"""The header of a safetensors file, checked in full before anything in it is believed.

Read `read_header` first; the checks follow in the order in which they are made.
"""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import cast

from mergecore.errors import Collector, InputError, MergecoreError, PolicyError
from mergecore.files.dtypes import DTYPES
from mergecore.files.magic_numbers import kind_of
from mergecore.files.safe_open import NO_STAMP, ReadAt, open_regular, resolved, stamp_of
from mergecore.files.strict_json import parse_json
from mergecore.types import Json, Stored, WeightFile

MAX_HEADER = 100_000_000
MAX_DIMENSIONS = 64
MAX_BYTES = 2**63 - 1

Tensors = tuple[Stored, ...]


def read_header(path: Path, place: str | None = None) -> tuple[tuple[Stored, ...], WeightFile]:
    """The tensors of the file at `path` in the order of their bytes, and what identifies the file.

    `place` is the file as messages show it.  Symbolic links are followed; a tensor keeps `path`.

    Raises:
        MergecoreError: E201 … E208, E236, E308 or E309, with tensor and numbers; several as `Problems`.
    """
    place = place or str(path)
    with open_regular(resolved(path, place), place) as (read, status):
        return parse_header(read, status.st_size, path, place, stamp_of(status))


def parse_header(
    read: ReadAt, size: int, path: Path, place: str, stamp: tuple[int, ...] = NO_STAMP
) -> tuple[Tensors, WeightFile]:
    """The same for a file of `size` bytes that is read by `read`, wherever it is."""
    head = _header_bytes(read, size, place)
    entries = _entries(head[8:], place)
    tensors = _tensors(entries, path, len(head), place)
    _check_layout(tensors, len(head), size, place)
    return tensors, WeightFile(path, size, hashlib.sha256(head).hexdigest(), stamp)


# ---- the bytes ---------------------------------------------------------------------------------------------


def _header_bytes(read: ReadAt, size: int, place: str) -> bytes:
    """The length and the header, as they are in the file."""
    if size == 0:
        raise InputError("E202", "empty file (0 bytes)", place=place, hint="download or copy it again")
    start = read(0, min(size, SNIFFED))
    length = int.from_bytes(start[:8], "little")
    whole = 8 <= 8 + length <= size and size >= 8
    if not whole or length > MAX_HEADER or start[8:9] != b"{":
        _refuse_other_kinds(start, place)
    if size < 8:
        raise InputError("E202", f"only {size} bytes, need at least 8", place=place)
    if length > MAX_HEADER:
        what = f"header length {length} exceeds the limit {MAX_HEADER}"
        raise PolicyError("E308", what, place=place, hint="no flag allows more; is it a safetensors file?")
    if not whole or length < 2:
        found = f"the file has only {size} bytes" if not whole else f"of {size} bytes, need at least 2"
        hint = "it is damaged, or not a safetensors file"
        raise InputError("E202", f"header length {length}, but {found}", place=place, hint=hint)
    head = start[: 8 + length]
    if missing := 8 + length - len(head):
        head += read(len(head), missing)
    if len(head) != 8 + length:
        raise InputError("E235", "became shorter while its header was read", place=place)
    return head


SNIFFED = 1 << 17
"""Bytes read at first: most headers are shorter, and over a network one request is better than two."""


def _refuse_other_kinds(start: bytes, place: str) -> None:
    if kind := kind_of(start):
        what = f"not a safetensors file but {kind.article} {kind.name}"
        raise InputError("E202", what, place=place, hint=kind.cure)


# ---- the JSON ----------------------------------------------------------------------------------------------


def _entries(header: bytes, place: str) -> dict[str, Json]:
    """What the header says about each tensor, by name."""
    if header.startswith(b"\xef\xbb\xbf"):
        raise InputError("E203", "header must begin with '{', found a byte order mark", place=place)
    if header[:1].isspace():
        raise InputError("E203", f"header must begin with '{{', found {ascii(header[:1])[1:]}", place=place)
    body = header.rstrip(b" ")
    if body[-1:].isspace():
        what = f"header may end in blanks only, found {ascii(body[-1:])[1:]} at byte {len(body) - 1}"
        raise InputError("E203", what, place=place)
    value = _parsed(header, place)
    if not isinstance(value, dict):
        raise InputError("E203", f"header must be a JSON object, found {_json(value)}", place=place)
    _check_metadata(value.pop("__metadata__", {}), place)
    if not value:
        raise InputError("E201", "contains no tensors", place=place)
    return value


def _parsed(header: bytes, place: str) -> Json:
    try:
        return parse_json(header, "header", code="E203", place=place, max_bytes=MAX_HEADER)
    except InputError as error:
        twin = _twin(header) if "occurs twice" in error.what else None
        if twin is None:
            raise
        raise InputError("E204", f"tensor '{twin}' occurs twice", place=place, tensor=twin) from None


def _twin(header: bytes) -> str | None:
    """A tensor name that occurs twice, if that is the fault of the header."""
    try:
        pairs = json.loads(header, object_pairs_hook=tuple)
    except ValueError:  # a twin further in was found before the end was seen
        return None
    names = sorted(name for name, _ in pairs) if isinstance(pairs, tuple) else []
    return next((name for name, following in pairwise(names) if name == following), None)


def _check_metadata(metadata: Json, place: str) -> None:
    if not isinstance(metadata, dict):
        what = f"__metadata__ must be an object of strings, found {_json(metadata)}"
        raise InputError("E203", what, place=place)
    for key, value in metadata.items():
        if not isinstance(value, str):
            what = f"__metadata__: '{key}' must be a string, found {_json(value)}"
            raise InputError("E203", what, place=place)


# ---- one tensor --------------------------------------------------------------------------------------------


class _Fault(Exception):
    """What is wrong with the tensor at hand."""

    def __init__(self, code: str, what: str) -> None:
        super().__init__(what)
        self.code = code


def _tensors(entries: Mapping[str, Json], path: Path, data: int, place: str) -> Tensors:
    """The tensors in the order of their bytes, the first of which is byte `data` of the file."""
    problems = Collector()
    found: list[tuple[int, int, Stored]] = []
    for name, entry in entries.items():
        try:
            _check_name(name)
            dtype, shape, begin, end = _facts(entry)
            found.append((begin, end, Stored(name, dtype, shape, path, data + begin)))
        except _Fault as fault:
            problems.add(_tensor_error(fault, name, place))
            if len(problems.errors) == _ENOUGH:
                break
    _check_duplicates(entries, place, problems)
    problems.raise_any()
    found.sort(key=lambda item: item[:2])
    return tuple(tensor for _, _, tensor in found)


_ENOUGH = 10
"""Faults of one header that are worth reading; a damaged header has thousands."""


def _tensor_error(fault: _Fault, name: str, place: str) -> MergecoreError:
    what = f"tensor '{name}': {fault}" if name else str(fault)
    error = PolicyError if fault.code == "E308" else InputError
    return error(fault.code, what, place=place, tensor=name)


def _check_name(name: str) -> None:
    if not name:
        raise _Fault("E208", "empty tensor name")
    if not name.isprintable() and any(unicodedata.category(char) in ("Cc", "Cs") for char in name):
        raise _Fault("E208", "control character in the name")


def _check_duplicates(names: Mapping[str, Json], place: str, problems: Collector) -> None:
    seen: dict[str, str] = {}
    for name in names:
        if not name.isascii():
            twin = seen.setdefault(unicodedata.normalize("NFC", name), name)
            if twin != name:
                what = f"tensor names {twin!a} and {name!a} differ only in Unicode form"
                problems.add(InputError("E208", what, place=place, tensor=name))
                return


def _facts(entry: Json) -> tuple[str, tuple[int, ...], int, int]:
    """Dtype, shape, first byte and end of a tensor, once they agree with one another."""
    if not isinstance(entry, dict):
        raise _Fault("E205", f"must be an object, found {_json(entry)}")
    for field in _FIELDS:
        if field not in entry:
            raise _Fault("E205", f"missing field '{field}'")
    if len(entry) > len(_FIELDS):
        raise _Fault("E205", f"unknown field '{next(key for key in entry if key not in _FIELDS)}'")
    dtype = entry["dtype"]
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise _Fault("E207", f"dtype {_quoted(dtype)} is not known; known are {', '.join(DTYPES)}")
    shape = _shape(entry["shape"])
    needed = _bytes_needed(dtype, shape)
    begin, end = _range(entry["data_offsets"])
    if end - begin != needed:
        what = f"{dtype} of shape {list(shape)} needs {needed} bytes, its range has {end - begin}"
        raise _Fault("E205", what)
    return dtype, shape, begin, end


_FIELDS = ("dtype", "shape", "data_offsets")


def _shape(value: Json) -> tuple[int, ...]:
    if not isinstance(value, list):
        raise _Fault("E205", f"shape must be a list, found {_json(value)}")
    if len(value) > MAX_DIMENSIONS:
        raise _Fault("E308", f"{len(value)} dimensions, limit {MAX_DIMENSIONS}")
    shape = _integers(value, "shape")
    for size in shape:
        if size < 0:
            raise _Fault("E205", f"dimension {size} is negative")
    return shape


def _bytes_needed(dtype: str, shape: Sequence[int]) -> int:
    bits = DTYPES[dtype].bits
    most = bits
    for size in shape:
        most *= size or 1
    if most > 8 * MAX_BYTES:
        raise _Fault("E205", f"shape {list(shape)}: its size in bytes would overflow 63 bits")
    bits = 0 if 0 in shape else most
    if bits % 8:
        raise _Fault("E205", f"{dtype} of shape {list(shape)} takes {bits} bits, not a whole number of bytes")
    return bits // 8


def _range(value: Json) -> tuple[int, int]:
    if not isinstance(value, list) or len(value) != 2:
        raise _Fault("E205", f"data_offsets must be a list of two numbers, found {_json(value)}")
    begin, end = _integers(value, "data_offsets")
    if not (0 <= begin <= MAX_BYTES and 0 <= end <= MAX_BYTES):
        raise _Fault("E205", f"data_offsets [{begin}, {end}] out of range (0 to {MAX_BYTES})")
    if begin > end:
        raise _Fault("E205", f"data_offsets: begin {begin} > end {end}")
    return begin, end


def _integers(values: Sequence[Json], field: str) -> tuple[int, ...]:
    for value in values:
        if type(value) is not int:
            raise _Fault("E205", f"{field}: {_json(value)} is not an integer")
    return tuple(cast("Sequence[int]", values))


# ---- all tensors together ----------------------------------------------------------------------------------


def _check_layout(tensors: Tensors, data: int, size: int, place: str) -> None:
    """The tensors follow one another without overlap or gap, and fill the file."""
    reached, last = data, "the header"
    for tensor in tensors:
        begin = tensor.offset
        if begin != reached:
            kind = f"overlaps {last}" if begin < reached else f"leaves a hole of {begin - reached} bytes"
            where = f"it begins at byte {begin}, {last} ends at byte {reached}"
            what = f"tensor '{tensor.name}' {kind}: {where}"
            raise InputError("E206", what, place=place, tensor=tensor.name)
        reached, last = begin + _bytes_needed(tensor.dtype, tensor.shape), f"'{tensor.name}'"
    if reached > size:
        what = f"truncated: expected {reached} bytes, found {size} ({reached - size} missing)"
        raise InputError("E206", what, place=place, hint="download or copy it again")
    if reached < size:
        what = f"{size - reached} trailing bytes: expected {reached} bytes, found {size}"
        raise InputError("E206", what, place=place, hint="download or copy it again")


def _json(value: Json) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def _quoted(value: Json) -> str:
    return f"'{value}'" if isinstance(value, str) else _json(value)
