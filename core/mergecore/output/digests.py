"""The digest of a tensor, the one rule for it: BLAKE3 over the BLAKE3 digests of its blocks.

Blocks can be hashed by any worker in any order while they are still in the cache, and the result is the same.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Sequence

from blake3 import blake3

from mergecore.files.dtypes import DTYPES
from mergecore.files.durable import read_at
from mergecore.types.outputs import WIDEST
from mergecore.types.steps import BLOCK

_SAMPLES = 16
_SAMPLE_BYTES = 4096


def block_digest(data: bytes | bytearray | memoryview) -> bytes:
    """The 32 bytes that stand for one block."""
    return blake3(data).digest()


def tensor_digest(blocks: Iterable[bytes]) -> str:
    """The digest of a tensor, in hex, from its block digests in order; an empty tensor has no blocks."""
    return blake3(b"".join(blocks)).hexdigest()


def block_bytes(dtype: str, shape: Sequence[int], nbytes: int, *, encoded: bool) -> int:
    """Bytes of a full block of a tensor of `nbytes`: in a dtype such as "BF16", or in an encoding of a writer."""
    if not encoded:
        return BLOCK * DTYPES[dtype].bits // 8
    return min(max(1, BLOCK * nbytes // max(1, math.prod(shape))), BLOCK * WIDEST)


def digest_of_file_span(file: int, offset: int, nbytes: int, block_bytes: int) -> str:
    """The digest of the tensor at `offset` of an open file; of what is there, where the file ends early."""
    buffer = memoryview(bytearray(min(nbytes, block_bytes)))
    digests = []
    for start in range(0, nbytes, block_bytes):
        block = buffer[: min(block_bytes, nbytes - start)]
        digests.append(block_digest(block[: read_at(file, block, offset + start)]))
    return tensor_digest(digests)


def sample_digest(read: Callable[[int, int], bytes], size: int) -> str:
    """SHA-256 of sixteen pieces spread over a file: cheap, and other weights under the same header show."""
    step = max(0, size - _SAMPLE_BYTES) // (_SAMPLES - 1)
    pieces = [read(index * step, _SAMPLE_BYTES) for index in range(_SAMPLES)]
    return hashlib.sha256(b"".join(pieces)).hexdigest()
