"""Writes safetensors: one file, or shards with an index, with the bytes that `safetensors.torch` would write.

`lay_out` is the whole of it.  Headers and offsets follow from names, dtypes and shapes; no weight is needed.
`read` reads a header back, by our own code and by the safetensors library, as whoever loads the model reads it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from mergecore import Field, OutputError, Params, Size, hookimpl
from mergecore.files import nbytes
from mergecore.types import (
    Json,
    Layout,
    LayoutRequest,
    OutputFile,
    OutputTensor,
    OutputWriter,
    Slot,
    Stored,
)

_DTYPES = (
    *("U64", "I64", "F64", "C64", "F32", "U32", "I32", "BF16", "F16", "U16", "I16"),
    *("F8_E5M2FNUZ", "F8_E4M3FNUZ", "F8_E8M0", "F8_E4M3", "F8_E5M2", "I8", "U8"),
    *("F6_E3M2", "F6_E2M3", "F4", "BOOL"),
)
_ORDER = {dtype: place for place, dtype in enumerate(_DTYPES)}
"""The order of dtypes in a file: the format wants the widest first, so that every tensor is aligned."""


class SafetensorsParams(Params):
    """How the tensors are divided into files."""

    shard_size: Size = Field(default=5_000_000_000, gt=0, description="largest size of a file, such as 5GB")
    stem: str = Field(default="model", pattern=r"^\w[\w-]*$", description="how the names of the files begin")


def lay_out(tensors: Sequence[OutputTensor], params: SafetensorsParams) -> Layout:
    """Files of at most `shard_size` bytes of tensors, filled in the order given; a larger one has its own."""
    shards = list(_packed(tensors, params.shard_size))
    names = _names(params.stem, len(shards))
    files: list[OutputFile] = []
    places: dict[str, Slot] = {}
    for index, (name, shard) in enumerate(zip(names, shards, strict=True)):
        file, slots = _file(name, index, shard)
        files.append(file)
        places |= slots
    slots = {tensor.name: places[tensor.name] for tensor in tensors}
    return Layout(tuple(files), slots, _index(params.stem, files, slots) if len(files) > 1 else {})


def _defaults(config: Mapping[str, Json]) -> dict[str, Json]:
    """Models of diffusers have weight files of another name."""
    return {"stem": "diffusion_pytorch_model"} if "_class_name" in config else {}


def _packed(tensors: Sequence[OutputTensor], limit: int) -> Iterator[list[OutputTensor]]:
    shard: list[OutputTensor] = []
    size = 0
    for tensor in tensors:
        needed = nbytes(tensor.dtype, tensor.shape)
        if shard and size + needed > limit:
            yield shard
            shard, size = [], 0
        shard.append(tensor)
        size += needed
    yield shard


def _names(stem: str, count: int) -> list[str]:
    if count == 1:
        return [f"{stem}.safetensors"]
    return [f"{stem}-{index:05d}-of-{count:05d}.safetensors" for index in range(1, count + 1)]


def _file(name: str, index: int, tensors: Sequence[OutputTensor]) -> tuple[OutputFile, dict[str, Slot]]:
    entries: dict[str, object] = {"__metadata__": {"format": "pt"}}
    ranges: dict[str, tuple[int, int]] = {}
    end = 0
    for tensor in sorted(tensors, key=lambda one: (_ORDER[one.dtype], one.name)):
        begin, end = end, end + nbytes(tensor.dtype, tensor.shape)
        ranges[tensor.name] = (begin, end)
        entries[tensor.name] = {"dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": (begin, end)}
    header = _header(entries)
    slots = {name: Slot(index, len(header) + begin, end - begin) for name, (begin, end) in ranges.items()}
    return OutputFile(name, header, len(header) + end), slots


def _header(entries: dict[str, object]) -> bytes:
    text = json.dumps(entries, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _index(stem: str, files: Sequence[OutputFile], slots: dict[str, Slot]) -> dict[str, bytes]:
    index = {
        "metadata": {"total_size": sum(slot.nbytes for slot in slots.values())},
        "weight_map": {name: files[slot.file].name for name, slot in sorted(slots.items())},
    }
    return {f"{stem}.safetensors.index.json": (json.dumps(index, indent=2) + "\n").encode()}


def read(path: Path) -> Sequence[Stored]:
    """The tensors that a file says it holds.

    Raises:
        MergecoreError: what is wrong with the header; E508 when the safetensors library reads it otherwise.
    """
    from mergecore.models import read_header

    found, _ = read_header(path)
    read_by_library = _library(path)
    ours = {one.name: (one.dtype, one.shape) for one in found}
    for name in {**ours, **read_by_library}:
        if (theirs := read_by_library.get(name)) != ours.get(name):
            what = f"tensor '{name}': the safetensors library reads {theirs}, mergecore {ours.get(name)}"
            raise OutputError("E508", what, place=str(path), tensor=name)
    return found


def _library(path: Path) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Dtype and shape of each tensor, as the safetensors library reads them."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as opened:
            views = {name: opened.get_slice(name) for name in opened.keys()}  # noqa: SIM118 - not a mapping
            return {name: (view.get_dtype(), tuple(view.get_shape())) for name, view in views.items()}
    except (SafetensorError, OSError) as error:
        what = f"the safetensors library cannot read it: {error}"
        raise OutputError("E508", what, place=str(path)) from error


def _layout(request: LayoutRequest, params: SafetensorsParams) -> Layout:
    return lay_out(request.tensors, params)


@hookimpl
def mergecore_output_writers() -> Iterator[OutputWriter[SafetensorsParams]]:
    """The writer "safetensors"."""
    yield OutputWriter(
        name="safetensors",
        layout=_layout,
        params=SafetensorsParams,
        read=read,
        defaults=_defaults,
        summary="safetensors, in one file or in shards; the default",
    )
