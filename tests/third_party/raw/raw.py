"""The output writer `raw`: the bare numbers, as many tensors in a file as its size allows."""

from __future__ import annotations

from collections.abc import Iterator

from mergecore import Field, OutputWriter, Params, Size, hookimpl
from mergecore.types import Layout, LayoutRequest, OutputFile, Slot


class RawParams(Params):
    limit: Size = Field(default=1_000_000, gt=0, description="bytes of a file before the next is begun")
    ending: str = Field(default="bin", pattern=r"^[a-z]+$", description="how the names of the files end")


def lay_out(request: LayoutRequest, params: RawParams) -> Layout:
    sizes, slots = [0], {}
    for one in request.tensors:
        if sizes[-1] and sizes[-1] + one.nbytes > params.limit:
            sizes.append(0)
        slots[one.name] = Slot(file=len(sizes) - 1, offset=sizes[-1], nbytes=one.nbytes)
        sizes[-1] += one.nbytes
    files = (OutputFile(f"{number}.{params.ending}", b"", size) for number, size in enumerate(sizes))
    return Layout(tuple(files), slots)


@hookimpl
def mergecore_output_writers() -> Iterator[OutputWriter[RawParams]]:
    yield OutputWriter(name="raw", layout=lay_out, params=RawParams)
