"""The header of a GGUF file: made for a request, and read back."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path

from mergecore.types import LayoutRequest, Slot, Stored

ALIGNMENT = 32
TYPES = {"F32": 0, "F16": 1, "Q8_0": 8, "BF16": 30}


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value.encode())) + value.encode()


def header_of(request: LayoutRequest, slots: Mapping[str, Slot]) -> bytes:
    table = request.vocabulary()
    tokens = sorted(table.ids, key=table.ids.__getitem__) if table else []
    facts = {"general.architecture": str(request.config.get("model_type")), "general.name": request.title}
    head = b"GGUF" + struct.pack("<IQQ", 3, len(slots), len(facts) + 1)
    head += b"".join(text(key) + struct.pack("<I", 8) + text(value) for key, value in facts.items())
    head += (
        text("tokenizer.ggml.tokens") + struct.pack("<IIQ", 9, 8, len(tokens)) + b"".join(map(text, tokens))
    )
    for one in request.tensors:
        slot, axes = slots[one.name], len(one.shape)
        head += text(one.name) + struct.pack(f"<I{axes}Q", axes, *reversed(one.shape))
        head += struct.pack("<IQ", TYPES[slot.encoding or one.dtype], slot.offset)
    return head + bytes(-len(head) % ALIGNMENT)


def read(path: Path) -> list[Stored]:
    from gguf import GGUFReader

    found = [(one, tuple(map(int, reversed(one.shape)))) for one in GGUFReader(path).tensors]
    return [Stored(one.name, one.tensor_type.name, shape, path, one.data_offset) for one, shape in found]
