"""What a file really is, by its first bytes: used when it is not what its name says.

`kind_of` is all there is; the table below it is in the order of trial.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class FileKind:
    """A kind of file that is not a safetensors file, and what to do about it."""

    name: str
    cure: str
    article: str = "a"


def kind_of(start: bytes) -> FileKind | None:
    """The kind of a file that begins with `start` (a hundred bytes suffice), None when it is not known."""
    return next((kind for pattern, kind in _KINDS if re.match(pattern, start)), None)


_CONVERT = "convert it to safetensors"
_AGAIN = "look into it, and download it again: a server may have sent a message in place of the file"
_ZIP = "if PyTorch wrote it, its name should be pytorch_model.bin; better convert it to safetensors"
_MARKUP = rb"(?i)\s*"

_KINDS: tuple[tuple[bytes, FileKind], ...] = (
    (rb"version https?://(git-lfs|hawser)", FileKind("git-LFS pointer", 'run "git lfs pull" in its folder')),
    (rb"GGUF", FileKind("GGUF file", "name the original checkpoint, or dequantise it to safetensors")),
    (rb"PK(\x03\x04|\x05\x06)", FileKind("zip archive", _ZIP)),
    (rb"7z\xbc\xaf\x27\x1c", FileKind("7-Zip archive", "unpack it")),
    (rb"\x1f\x8b\x08", FileKind("gzip file", "unpack it")),
    (rb"\xfd7zXZ\x00", FileKind("xz file", "unpack it", "an")),
    (rb"\x28\xb5\x2f\xfd", FileKind("zstd file", "unpack it")),
    (rb"BZh[1-9]", FileKind("bzip2 file", "unpack it")),
    (rb"Rar!\x1a\x07", FileKind("RAR archive", "unpack it")),
    (rb"(?s).{257}ustar", FileKind("tar archive", "unpack it")),
    (rb"\x89HDF\r\n", FileKind("HDF5 file", _CONVERT, "an")),
    (rb"\x93NUMPY", FileKind("NumPy file", _CONVERT)),
    (rb"\x7fELF", FileKind("program", "find out who put it there")),
    (rb"\x80[\x02-\x05][}\x8a\x95cX]", FileKind("pickle", f"if you trust it, {_CONVERT}")),
    (_MARKUP + rb"<(!doctype|html|head|body|\?xml|!--)", FileKind("HTML page", _AGAIN, "an")),
    (_MARKUP + rb"\{\s*\"(error|message|detail)\"", FileKind("message of a server", _AGAIN)),
    (rb"[\t\r\n -~]{8}", FileKind("text file", _AGAIN)),
)
