"""Distributed checkpoints of torch (DCP), written in one process: tensors in boxes, over any number of files."""

from __future__ import annotations

import io
import pickle
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed.checkpoint.filesystem import _StorageInfo
from torch.distributed.checkpoint.metadata import (
    BytesStorageMetadata,
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    TensorProperties,
    TensorStorageMetadata,
)

Cuts = Sequence[Sequence[int]]
"""Where a tensor is cut in each dimension."""


def boxes(tensor: Tensor, cuts: Cuts) -> Iterator[tuple[tuple[int, ...], Tensor]]:
    """The parts of a tensor, each with where it begins."""
    ends = [
        [0, *(cuts[axis] if axis < len(cuts) else ()), length] for axis, length in enumerate(tensor.shape)
    ]
    for spans in product(*(list(pairwise(one)) for one in ends)):
        part = tensor
        for axis, (first, stop) in enumerate(spans):
            part = part.narrow(axis, first, stop - first)
        yield tuple(first for first, _ in spans), part.contiguous()


def write_dcp(
    folder: Path,
    tensors: Mapping[str, Tensor],
    cuts: Mapping[str, Cuts] | None = None,
    *,
    path: Sequence[str] = ("model",),
    ranks: int = 2,
    more: Mapping[str, Tensor] | None = None,
    planned: bool = True,
) -> Path:
    """Write a checkpoint of what `path` leads to; the folder.

    cuts: by tensor; others are whole.  ranks: the files among which the parts are dealt.
    more: further tensors by their keys with dots.  planned: whether it says which keys lead to what.
    """
    folder.mkdir(parents=True, exist_ok=True)
    streams = [io.BytesIO() for _ in range(ranks)]
    entries: dict[str, Any] = {}
    stored: dict[MetadataIndex, _StorageInfo] = {}
    paths: dict[str, tuple[str, ...]] = {}
    named = {".".join((*path, name)): ((*path, name), one) for name, one in tensors.items()}
    named |= {name: (tuple(name.split(".")), one) for name, one in (more or {}).items()}
    for number, (key, (keys, tensor)) in enumerate(named.items()):
        chunks: list[ChunkStorageMetadata] = []
        for offsets, part in boxes(tensor, (cuts or {}).get(keys[-1], ())):
            rank = (number + len(chunks)) % ranks
            start = streams[rank].tell()
            blob = io.BytesIO()
            torch.save(part, blob)
            streams[rank].write(blob.getvalue())
            info = _StorageInfo(f"__{rank}_0.distcp", start, len(blob.getvalue()))
            stored[MetadataIndex(key, torch.Size(offsets), len(chunks))] = info
            chunks.append(ChunkStorageMetadata(torch.Size(offsets), part.shape))
        properties = TensorProperties.create_from_tensor(tensor)
        entries[key] = TensorStorageMetadata(properties, tensor.shape, chunks)
        paths[key] = keys
    entries["step"] = BytesStorageMetadata()
    for rank, stream in enumerate(streams):
        (folder / f"__{rank}_0.distcp").write_bytes(stream.getvalue())
    metadata = Metadata(entries, paths if planned else None, stored)
    (folder / ".metadata").write_bytes(pickle.dumps(metadata, protocol=4))
    return folder
