"""What a distributed checkpoint says of itself in `.metadata`, a pickle that is not run; read `read_metadata`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard

from mergecore.errors import InputError, MergecoreError
from mergecore.models import Allowed, Record, walked

METADATA = ".metadata"
MAX_METADATA = 2**27
MAX_STEPS = 20_000_000

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Place:
    """Where a shard is stored."""

    file: str
    offset: int
    length: int


@dataclass(frozen=True)
class Shard:
    """A part of a tensor: where it begins in each dimension, how large it is there, and where it is stored."""

    offsets: Shape
    sizes: Shape
    place: Place


@dataclass(frozen=True)
class Listed:
    """A tensor of the checkpoint."""

    key: str
    """What the checkpoint calls it, such as `model.lm_head.weight`."""
    path: tuple[str, ...]
    """The keys that lead to it in what was saved, such as `model` and `lm_head.weight`."""
    shape: Shape
    shards: tuple[Shard, ...]


def read_metadata(data: bytes, place: str) -> tuple[Listed, ...]:
    """The tensors in their order; what else was saved is left out.

    Raises:
        MergecoreError: E304 when the pickle asks for more than a list of tensors, E202 when it is damaged, E205 for a
            tensor that is not described as one, E308.
    """
    whole = walked(data, place, _ALLOWED)
    if not isinstance(whole, Record) or whole.name != f"{_DCP}.metadata.Metadata":
        raise _damaged("it is not the list of a distributed checkpoint", place)
    entries, stored = whole.get("state_dict_metadata"), whole.get("storage_data")
    if not isinstance(entries, dict) or not isinstance(stored, dict):
        raise _damaged("it lists no tensors, or not where they are", place)
    places = dict(_places(stored, place))
    paths = whole.get("planner_data")
    return tuple(
        _listed(str(key), entry, paths, places, place)
        for key, entry in entries.items()
        if isinstance(entry, Record) and entry.name == f"{_DCP}.metadata.TensorStorageMetadata"
    )


def _listed(
    key: str, entry: Record, paths: object, places: Mapping[tuple[str, Shape], Place], place: str
) -> Listed:
    shape, chunks = entry.get("size"), entry.get("chunks")
    if not _is_shape(shape) or not isinstance(chunks, list):
        raise _wrong(key, "it has no shape, or no shards", place)
    shards = []
    for chunk in chunks:
        offsets, sizes = (chunk.get(name) for name in ("offsets", "sizes"))
        if not _is_shape(offsets) or not _is_shape(sizes) or not len(offsets) == len(sizes) == len(shape):
            raise _wrong(key, "a shard of it has no place in it", place)
        if any(a + b > c for a, b, c in zip(offsets, sizes, shape, strict=True)):
            what = f"a shard of {list(sizes)} from {list(offsets)} on goes beyond its shape {list(shape)}"
            raise _wrong(key, what, place)
        found = places.get((key, offsets))
        if found is None:
            what = f"no file holds its shard from {list(offsets)} on"
            raise InputError(
                "E212", f"tensor '{key[:200]}': {what}", place=place, tensor=key, hint="copy it again"
            )
        shards.append(Shard(offsets, sizes, found))
    path = paths.get(key) if isinstance(paths, dict) else None
    known = isinstance(path, tuple) and path and all(isinstance(one, (str, int)) for one in path)
    return Listed(key, tuple(map(str, path)) if known and path else (key,), shape, tuple(shards))


def _places(stored: Mapping[Any, Any], place: str) -> Iterator[tuple[tuple[str, Shape], Place]]:
    for index, info in stored.items():
        if not isinstance(index, Record) or not isinstance(info, Record):
            raise _damaged("it does not say where the tensors are", place)
        key, offsets = index.get("fqn"), index.get("offset")
        if not _is_shape(offsets):
            continue  # of something that is no tensor
        if info.get("transform_descriptors"):
            what = f"'{key}' is compressed ({', '.join(map(str, info.get('transform_descriptors')))})"
            hint = "save the checkpoint again without extensions"
            raise InputError("E202", f"{what}, which cannot be read", place=place, hint=hint)
        file, offset, length = (info.get(name) for name in ("relative_path", "offset", "length"))
        if not isinstance(file, str) or not _is_shape((offset, length)):
            raise _damaged("it does not say where the tensors are", place)
        yield (str(key), offsets), Place(file, offset, length)


def _is_shape(value: object) -> TypeGuard[Shape]:
    return (
        isinstance(value, tuple)
        and len(value) <= 64
        and all(type(one) is int and 0 <= one < 2**63 for one in value)
    )


def _damaged(what: str, place: str) -> MergecoreError:
    return InputError("E202", what, place=place, hint="copy the checkpoint again")


def _wrong(key: str, what: str, place: str) -> MergecoreError:
    return InputError(
        "E205", f"tensor '{key[:200]}': {what}", place=place, tensor=key, hint="save the checkpoint again"
    )


# ---- what the pickle may name ------------------------------------------------------------------------------

_DCP = "torch.distributed.checkpoint"
_OLD = "torch.distributed._shard.sharded_tensor.metadata"
_DTYPES = "float64 float32 float16 bfloat16 int64 int32 int16 int8 uint64 uint32 uint16 uint8 bool"


def _size(given: tuple[Any, ...]) -> tuple[Any, ...]:
    (sizes,) = given
    if not isinstance(sizes, tuple):
        raise TypeError
    return sizes


def _nothing(given: tuple[Any, ...]) -> str:
    """What does not matter here, such as the layout of a tensor in memory."""
    return ""


_PATHS = ("PosixPath", "WindowsPath", "PurePosixPath", "Path")
_ALLOWED = Allowed(
    calls={
        "torch.Size": _size,
        "collections.OrderedDict": lambda given: {},
        **dict.fromkeys(
            (
                "torch.serialization._get_layout",
                f"{_DCP}.metadata._MEM_FORMAT_ENCODING",
                f"{_OLD}.MEM_FORMAT_ENCODING",
                *(f"pathlib.{name}" for name in _PATHS),
                *(f"pathlib._local.{name}" for name in _PATHS),
            ),
            _nothing,
        ),
    },
    names=frozenset(f"torch.{name}" for name in _DTYPES.split()),
    records=frozenset(
        {
            f"{_DCP}.metadata.Metadata",
            f"{_DCP}.metadata.TensorStorageMetadata",
            f"{_DCP}.metadata.BytesStorageMetadata",
            f"{_DCP}.metadata.ChunkStorageMetadata",
            f"{_DCP}.metadata.TensorProperties",
            f"{_DCP}.metadata.MetadataIndex",
            f"{_DCP}.metadata.StorageMeta",
            f"{_DCP}.filesystem._StorageInfo",
            f"{_OLD}.TensorProperties",
        }
    ),
    steps=MAX_STEPS,
)
