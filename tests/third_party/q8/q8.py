"""The output writer `q8`: one GGUF file with matrices in Q8_0, 32 numbers in 34 bytes, and all else in its dtype."""

from __future__ import annotations

from collections.abc import Iterator

from q8_codec import CODECS
from q8_file import ALIGNMENT, header_of, read

from mergecore import NoParams, OutputWriter, hookimpl
from mergecore.types import Layout, LayoutRequest, OutputFile, Slot


def lay_out(request: LayoutRequest, params: NoParams) -> Layout:
    slots, end = {}, 0
    for one in request.tensors:
        encoding = "Q8_0" if len(one.shape) > 1 and one.shape[-1] % 32 == 0 else ""
        nbytes = CODECS[encoding].nbytes(one.count) if encoding else one.nbytes
        slots[one.name] = Slot(0, end, nbytes, encoding)
        end += -(-nbytes // ALIGNMENT) * ALIGNMENT
    header = header_of(request, slots)
    slots = {name: Slot(0, len(header) + one.offset, one.nbytes, one.encoding) for name, one in slots.items()}
    return Layout((OutputFile("model.gguf", header, len(header) + end),), slots)


@hookimpl
def mergecore_output_writers() -> Iterator[OutputWriter[NoParams]]:
    yield OutputWriter(name="q8", layout=lay_out, codecs=CODECS, read=read)
