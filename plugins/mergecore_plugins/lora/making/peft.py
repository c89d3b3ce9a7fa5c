"""The output writer `peft`: one file with the tensors of an adapter, and one with what is known about them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from mergecore import Field, OutputWriter, Params, hookimpl
from mergecore.files import DTYPES
from mergecore.types import Layout, LayoutRequest, OutputFile, OutputTensor, Slot, Stored

WRITER = "peft"
WEIGHTS = "adapter_model.safetensors"
PREFIX = "base_model.model."
"""How the names of all tensors of an adapter begin."""
_WIDEST_FIRST = ("F64", "F32", "BF16", "F16")
"""The order of formats in a file, among those of one width; wider ones come first, so that every tensor is aligned."""
Rank = Annotated[int, Field(ge=1)]


class PeftParams(Params):
    """What a merge config says of an adapter that is made of adapters."""

    rank: Rank | Literal["exact", "full"] | None = Field(
        None,
        description="rank of the adapter; exact: as much as the sum of the inputs needs, full: all there is",
    )
    method: Literal["auto", "exact", "randomised"] = Field(
        "auto", description="how singular values are found"
    )


@hookimpl
def mergecore_output_writers() -> Iterator[OutputWriter[Any]]:
    """Yield the writer `peft`."""
    yield OutputWriter(
        name=WRITER, layout=lay_out, params=PeftParams, read=read, summary="an adapter, as PEFT reads it"
    )


def lay_out(request: LayoutRequest, params: PeftParams) -> Layout:
    """The names that PEFT looks for; facts of tensors lie in a file of their own, called as their names begin."""
    files: list[OutputFile] = []
    slots: dict[str, Slot] = {}
    parts: dict[str, list[OutputTensor]] = {WEIGHTS: []}
    for one in request.tensors:
        parts.setdefault(_file(one.name), []).append(one)
    for name, part in parts.items():
        if part:
            header, offsets = _header(part)
            slots |= {one.name: Slot(len(files), len(header) + offsets[one.name], one.nbytes) for one in part}
            files.append(OutputFile(name, header, len(header) + sum(one.nbytes for one in part)))
    return Layout(tuple(files), {one.name: slots[one.name] for one in request.tensors})


def _file(tensor: str) -> str:
    return WEIGHTS if tensor.startswith(PREFIX) else f"{tensor.partition('.')[0]}.safetensors"


def read(path: Path) -> Sequence[Stored]:
    """The tensors that a file says it holds."""
    from mergecore.models import read_header

    return read_header(path)[0]


def _header(tensors: Sequence[OutputTensor]) -> tuple[bytes, dict[str, int]]:
    """The first bytes of a file of safetensors, and where each tensor begins after them."""
    entries: dict[str, object] = {"__metadata__": {"format": "pt"}}
    offsets: dict[str, int] = {}
    at = 0
    for one in sorted(tensors, key=_order):
        offsets[one.name] = at
        entries[one.name] = {"dtype": one.dtype, "shape": one.shape, "data_offsets": (at, at + one.nbytes)}
        at += one.nbytes
    text = json.dumps(entries, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text, offsets


def _order(one: OutputTensor) -> tuple[int, int, str]:
    place = _WIDEST_FIRST.index(one.dtype) if one.dtype in _WIDEST_FIRST else len(_WIDEST_FIRST)
    return -DTYPES[one.dtype].bits, place, one.name
