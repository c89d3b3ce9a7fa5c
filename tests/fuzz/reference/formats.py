"""Numbers as files hold them: bytes of each format to float64 and back."""

from __future__ import annotations

from typing import Any

import numpy as np

from fuzz.reference.arrays import Array

PLAIN: dict[str, Any] = {"F64": "<f8", "F32": "<f4", "F16": "<f2"}


def encoded(values: Array, dtype: str) -> bytes:
    """The nearest numbers of that format, ties to even."""
    if dtype != "BF16":
        return values.astype(PLAIN[dtype]).tobytes()
    bits = values.astype("<f4").view("<u4").astype(np.uint64)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2").tobytes()


def decoded(data: bytes, dtype: str, shape: tuple[int, ...]) -> Array:
    """The numbers, exactly."""
    if dtype != "BF16":
        return np.frombuffer(data, dtype=PLAIN[dtype]).astype(np.float64).reshape(shape)
    bits = np.frombuffer(data, dtype="<u2").astype("<u4") << 16
    return bits.view("<f4").astype(np.float64).reshape(shape)


def stored(values: Array, dtype: str) -> Array:
    """The numbers as a file of that format holds them."""
    return decoded(encoded(values, dtype), dtype, values.shape)


def promoted(dtypes: list[str]) -> str:
    """The narrowest format that holds all numbers of these."""
    kinds = set(dtypes)
    if len(kinds) == 1:
        return dtypes[0]
    return "F64" if "F64" in kinds else "F32"
