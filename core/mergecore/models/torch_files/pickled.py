"""What the pickle inside a file of `torch.save` says about its tensors, without unpickling; read `read_pickle`.

Only those steps are understood that describe tensors, alone or in dictionaries.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mergecore.models.torch_files.walking import Allowed, Global, damaged, short, walked

MAX_PICKLE = 2**24


@dataclass(frozen=True)
class Storage:
    """Numbers in a member of the archive."""

    dtype: str
    key: str
    count: int


@dataclass(frozen=True)
class View:
    """A tensor: elements of a storage from `start` on."""

    storage: Storage
    start: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def read_pickle(data: bytes, place: str) -> dict[Any, Any]:
    """What the pickle holds by keys: tensors as a `View`, numbers, text, lists and mappings of them.

    Raises:
        MergecoreError: E304 for a pickle that asks for anything else, E202 for a damaged one, E308 for one beyond all
            measure.
    """
    found = walked(data, place, _TENSORS)
    if not isinstance(found, dict):
        raise damaged("the pickle holds no tensors by name", place)
    return found


def only_tensors(found: Mapping[Any, Any], place: str) -> dict[str, View]:
    """The tensors by name, of a pickle that must hold nothing else.

    Raises:
        InputError: E202 when it does.
    """
    for name, one in found.items():
        if not isinstance(name, str) or not isinstance(one, View):
            raise damaged(f"the pickle holds more than tensors: {short(name)}", place)
    return dict(found)


def read_view(data: bytes, place: str) -> View:
    """The one tensor of a pickle that holds nothing else.

    Raises:
        MergecoreError: as for `read_pickle`.
    """
    found = walked(data, place, _TENSORS)
    if not isinstance(found, View):
        raise damaged("the pickle is not that of one tensor", place)
    return found


_STORAGES = {
    "torch.DoubleStorage": "F64",
    "torch.FloatStorage": "F32",
    "torch.HalfStorage": "F16",
    "torch.BFloat16Storage": "BF16",
    "torch.LongStorage": "I64",
    "torch.IntStorage": "I32",
    "torch.ShortStorage": "I16",
    "torch.CharStorage": "I8",
    "torch.ByteStorage": "U8",
    "torch.BoolStorage": "BOOL",
}


def _dictionary(given: tuple[Any, ...]) -> dict[str, Any] | None:
    return None if given else {}


def _parameter(given: tuple[Any, ...]) -> View | None:
    return given[0] if isinstance(given[0], View) else None


def _tensor(given: tuple[Any, ...]) -> View:
    storage, start, shape, strides = given[:4]
    if not isinstance(storage, Storage) or not _is_size(start):
        raise TypeError
    for sizes in (shape, strides):
        if not isinstance(sizes, tuple) or len(sizes) > 64 or not all(map(_is_size, sizes)):
            raise TypeError
    return View(storage, start, shape, strides)


def _storage(given: Any) -> Storage:
    kind, storage, key, _location, count = given
    if kind != "storage" or not isinstance(storage, Global) or storage.name not in _STORAGES:
        raise TypeError
    if not isinstance(key, str) or not _is_size(count):
        raise TypeError
    return Storage(_STORAGES[storage.name], key, count)


def _is_size(value: object) -> bool:
    return type(value) is int and 0 <= value < 2**63


_TENSORS = Allowed(
    calls={
        "torch._utils._rebuild_tensor_v2": _tensor,
        "torch._utils._rebuild_parameter": _parameter,
        "collections.OrderedDict": _dictionary,
    },
    names=frozenset(_STORAGES),
    persistent=_storage,
)
