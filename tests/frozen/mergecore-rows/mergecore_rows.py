"""rows: matrices as signed bytes, four numbers in a block of its largest magnitude; all else as it is."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mergecore import Field, OutputWriter, Params, Size, hookimpl
from mergecore.types import Codec, Layout, LayoutRequest, OutputFile, Slot, Stored

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

MERGECORE_API = 1
ROOM = 4096


class RowsParams(Params):
    """What configs say."""

    shard_size: Size = Field(default=1_000_000, gt=0, description="bytes of a file before the next is begun")
    ending: str = Field(default="rows", pattern="^[a-z]+$", description="how the names of the files end")


def encode(numbers: npt.NDArray[np.float32]) -> bytes:
    """Of each four numbers the largest magnitude, float32, then their 127ths of it, rounded towards zero."""
    import numpy as np

    blocks = numbers.reshape(-1, 4)
    largest = np.abs(blocks).max(1, keepdims=True)
    steps = np.trunc(blocks / np.where(largest == 0, 1, largest) * 127).astype(np.int8)
    return np.concatenate([largest.astype("<f4").view(np.int8), steps], 1).tobytes()


CODECS = {"R4": Codec(block_elements=4, block_bytes=8, encode=encode)}


def lay_out(request: LayoutRequest, params: RowsParams) -> Layout:
    """Files of a header of 4096 bytes, JSON, and tensors one after the other."""
    slots: dict[str, Slot] = {}
    contents: list[dict[str, object]] = [{}]
    end = ROOM
    for one in request.tensors:
        encoding = "R4" if len(one.shape) == 2 and one.shape[1] % 4 == 0 and one.dtype == "F32" else ""
        nbytes = CODECS[encoding].nbytes(one.count) if encoding else one.nbytes
        if end > ROOM and end + nbytes > ROOM + params.shard_size:
            contents, end = [*contents, {}], ROOM
        slots[one.name] = Slot(len(contents) - 1, end, nbytes, encoding)
        contents[-1][one.name] = [encoding or one.dtype, list(one.shape), end]
        end += nbytes
    sizes = [0] * len(contents)
    for slot in slots.values():
        sizes[slot.file] = slot.offset + slot.nbytes
    files = [
        OutputFile(
            f"{number}.{params.ending}", json.dumps(content, sort_keys=True).encode().ljust(ROOM), size
        )
        for number, (content, size) in enumerate(zip(contents, sizes, strict=True))
    ]
    index = json.dumps({"title": request.title, "files": [file.name for file in files]}).encode()
    return Layout(tuple(files), slots, {"rows.json": index})


def read(path: Path) -> Sequence[Stored]:
    """The tensors that a file says it holds."""
    with path.open("rb") as file:
        content = json.loads(file.read(ROOM))
    return [
        Stored(name, dtype, tuple(shape), path, offset) for name, (dtype, shape, offset) in content.items()
    ]


@hookimpl
def mergecore_output_writers() -> Iterator[OutputWriter[RowsParams]]:
    yield OutputWriter(name="rows", layout=lay_out, params=RowsParams, codecs=CODECS, read=read)
