"""Files of `torch.save`: a zip archive of a pickle, which is never unpickled, and of the bytes of tensors.

Read `parse_torch` first.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeAlias

from mergecore.errors import InputError, MergecoreError, PolicyError
from mergecore.files.dtypes import DTYPES
from mergecore.files.safe_open import NO_STAMP, ReadAt, open_regular, resolved, stamp_of
from mergecore.models.safetensors import Tensors
from mergecore.models.shards import pickled_file
from mergecore.models.torch_files.pickled import MAX_PICKLE, View, only_tensors, read_pickle, read_view
from mergecore.types import Stored, WeightFile

MAX_DIRECTORY = 2**24
Choose: TypeAlias = Callable[[Mapping[Any, Any], str], dict[str, View]]
"""The tensors in what a pickle holds; the second argument is the file as messages show it."""


def parse_torch(
    read: ReadAt,
    size: int,
    path: Path,
    place: str,
    stamp: tuple[int, ...] = NO_STAMP,
    choose: Choose = only_tensors,
) -> tuple[Tensors, WeightFile]:
    """The tensors of a file of `size` bytes in the order of their bytes, and what identifies the file.

    choose: finds them in what the pickle holds.

    Raises:
        MergecoreError: E202 … E208, E303 for a pickle without an archive, E304 for one that asks for more than
            tensors, E308.
    """
    archive = _opened(read, size, place)
    views = choose(read_pickle(archive.pickle, place), place)
    found = [archive.stored(name, view, path) for name, view in views.items()]
    if not found:
        raise InputError("E201", "contains no tensors", place=place)
    found.sort(key=lambda one: (one.offset, one.name))
    return tuple(found), WeightFile(path, size, archive.sha256, stamp)


def read_torch(path: Path, place: str) -> tuple[tuple[Stored, ...], WeightFile]:
    """The same for the file at `path`; symbolic links are followed."""
    return read_chosen(path, place, only_tensors)


def read_chosen(path: Path, place: str, choose: Choose) -> tuple[Tensors, WeightFile]:
    """As `read_torch`, with another way to find tensors in what the pickle holds."""
    with open_regular(resolved(path, place), place) as (read, status):
        return parse_torch(read, status.st_size, path, place, stamp_of(status), choose)


def read_tensor(read: ReadAt, start: int, size: int, path: Path, place: str, name: str) -> tuple[Stored, str]:
    """One tensor that `torch.save` wrote by itself, `size` bytes of a file from `start` on; a digest of its facts.

    read: reads the file.  name: what the tensor is called there, which its bytes do not say.

    Raises:
        MergecoreError: as for `parse_torch`.
    """
    archive = _opened(lambda at, count: read(start + at, count), size, place)
    one = archive.stored(name, read_view(archive.pickle, place), path)
    return replace(one, offset=start + one.offset), archive.sha256


_AGAIN = "copy it again, or save it as safetensors"


# ---- the archive -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Member:
    name: str
    size: int
    at: int
    """Where its own header begins."""
    plain: bool
    """Neither compressed nor encrypted."""


@dataclass(frozen=True)
class _Archive:
    """Its members, and what is in its pickle."""

    members: Mapping[str, _Member]
    root: str
    pickle: bytes
    sha256: str
    read: ReadAt
    size: int
    place: str

    def stored(self, name: str, view: View, path: Path) -> Stored:
        """A tensor as a part of the file."""
        member = self.members.get(f"{self.root}data/{view.storage.key}")
        return _stored(name, view, member, self.read, self.size, path, self.place)


def _opened(read: ReadAt, size: int, place: str) -> _Archive:
    start = read(0, min(size, 4))
    if start[:1] == b"\x80":
        raise pickled_file(place)
    if start != b"PK\x03\x04":
        what = "not a torch.save file" if size else "empty file (0 bytes)"
        raise InputError("E202", what, place=place, hint=_AGAIN)
    directory = _directory(read, size, place)
    members = {one.name: one for one in _members(directory, place)}
    root = next((name.removesuffix("data.pkl") for name in members if name.endswith("/data.pkl")), None)
    if root is None or root.count("/") != 1:
        raise InputError("E202", "a zip archive without tensors of torch.save", place=place, hint=_AGAIN)
    _check_members(members, read, size, root, place)
    pickle = members[f"{root}data.pkl"]
    if pickle.size > MAX_PICKLE:
        what = f"the pickle has {pickle.size} bytes, limit {MAX_PICKLE}"
        raise PolicyError("E308", what, place=place, hint="save it as safetensors")
    data = read(_start(pickle, read, size, place), pickle.size)
    digest = hashlib.sha256(data + directory).hexdigest()
    return _Archive(members, root, data, digest, read, size, place)


def _cut(place: str) -> MergecoreError:
    return InputError("E206", "truncated or damaged: the zip archive has no end", place=place, hint=_AGAIN)


def _directory(read: ReadAt, size: int, place: str) -> bytes:
    """The list of members at the end of an archive."""
    begin = max(0, size - _TAIL)
    tail = read(begin, size - begin)
    if tail[-22:-18] != b"PK\x05\x06":  # there is a comment behind it, which torch writes not
        begin = max(0, size - 2**16 - 22)
        tail = read(begin, size - begin)
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or len(tail) - at < 22:
        raise _cut(place)
    length, offset = struct.unpack_from("<II", tail, at + 12)
    if at >= 20 and tail[at - 20 : at - 16] == b"PK\x06\x07":
        (where,) = struct.unpack_from("<Q", tail, at - 12)
        long = read(where, 56) if where <= size else b""
        if long[:4] != b"PK\x06\x06" or len(long) < 56:
            raise _cut(place)
        length, offset = struct.unpack_from("<QQ", long, 40)
    if length > MAX_DIRECTORY:
        what = f"the list of its members has {length} bytes, limit {MAX_DIRECTORY}"
        raise PolicyError("E308", what, place=place, hint=_AGAIN)
    if offset + length > begin + at:
        raise _cut(place)
    return read(offset, length)


_TAIL = 1 << 10
"""Bytes read of the end at first; a file of many small archives would else be read as a whole."""


def _members(directory: bytes, place: str) -> Iterator[_Member]:
    at, seen = 0, set()
    while at < len(directory):
        if directory[at : at + 4] != b"PK\x01\x02" or at + 46 > len(directory):
            raise _cut(place)
        flags, method = struct.unpack_from("<HH", directory, at + 8)
        packed, size, name_size, more, comment = struct.unpack_from("<IIHHH", directory, at + 20)
        (offset,) = struct.unpack_from("<I", directory, at + 42)
        raw = directory[at + 46 : at + 46 + name_size]
        extra = directory[at + 46 + name_size : at + 46 + name_size + more]
        size, packed, offset = _long((size, packed, offset), extra)
        name = raw.decode("utf8", "replace")
        if name in seen:
            raise InputError("E202", f"two members are called '{name[:80]}'", place=place, hint=_AGAIN)
        seen.add(name)
        yield _Member(name, size, offset, method == 0 and packed == size and not flags & 1)
        at += 46 + name_size + more + comment


def _long(numbers: tuple[int, ...], extra: bytes) -> tuple[int, ...]:
    """Numbers of 64 bits in place of those that do not fit into 32."""
    at, found = 0, list(numbers)
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<HH", extra, at)
        if kind == 1:
            longs = [one for (one,) in struct.iter_unpack("<Q", extra[at + 4 : at + 4 + length // 8 * 8])]
            for index in [i for i, one in enumerate(found) if one == 2**32 - 1]:
                found[index] = longs.pop(0) if longs else found[index]
        at += 4 + length
    return tuple(found)


def _check_members(members: dict[str, _Member], read: ReadAt, size: int, root: str, place: str) -> None:
    for one in members.values():
        if not one.plain:
            what = f"'{one.name[:80]}' is compressed; torch.save leaves its members as they are"
            hint = "save it again with torch, or as safetensors"
            raise InputError("E202", what, place=place, hint=hint)
    order = members.get(f"{root}byteorder")
    if order and (order.size != 6 or read(_start(order, read, size, place), 6) != b"little"):
        raise InputError("E202", "its numbers are not little-endian", place=place, hint=_AGAIN)
    for before, after in pairwise(sorted(members.values(), key=lambda one: one.at)):
        if before.at + 30 + before.size > after.at:
            what = f"the members '{before.name[:80]}' and '{after.name[:80]}' overlap"
            raise InputError("E206", what, place=place, hint=_AGAIN)


def _start(member: _Member, read: ReadAt, size: int, place: str) -> int:
    """Where the bytes of a member begin."""
    head = read(member.at, 30) if member.at < size else b""
    if head[:4] != b"PK\x03\x04" or len(head) < 30:
        raise _cut(place)
    name, extra = struct.unpack_from("<HH", head, 26)
    start = member.at + 30 + name + extra
    if start + member.size > size:
        raise InputError("E206", f"truncated: '{member.name[:80]}' is not whole", place=place, hint=_AGAIN)
    return int(start)


# ---- one tensor --------------------------------------------------------------------------------------------


def _stored(
    name: str, view: View, member: _Member | None, read: ReadAt, size: int, path: Path, place: str
) -> Stored:
    """A tensor as a part of the file."""
    if not name or not name.isprintable():
        raise InputError("E208", "empty tensor name, or a control character in one", place=place, tensor=name)
    width = DTYPES[view.storage.dtype].bits // 8
    if member is None or member.size != view.storage.count * width:
        there = f"{member.size} bytes" if member else "nothing"
        what = (
            f"its {view.storage.count} numbers need {view.storage.count * width} bytes, the file has {there}"
        )
        raise _wrong(name, what, place)
    count, expected = 1, []
    for length in reversed(view.shape):
        expected.append(count)
        count *= length
    strides = zip(view.shape, view.strides, reversed(expected), strict=True) if _fits(view) else ()
    if not _fits(view) or (count and any(n > 1 and there != want for n, there, want in strides)):
        what = f"it is not contiguous (shape {list(view.shape)})"
        raise _wrong(name, what, place, "make it contiguous and save it again")
    start = view.start if count else 0  # where nothing begins does not matter
    if start + count > view.storage.count:
        what = f"shape {list(view.shape)} from {view.start} on goes beyond its {view.storage.count} numbers"
        raise _wrong(name, what, place)
    offset = _start(member, read, size, place) + start * width
    return Stored(name, view.storage.dtype, view.shape, path, offset)


def _fits(view: View) -> bool:
    return len(view.shape) == len(view.strides)


def _wrong(name: str, what: str, place: str, hint: str = _AGAIN) -> MergecoreError:
    return InputError("E205", f"tensor '{name[:200]}': {what}", place=place, tensor=name, hint=hint)
