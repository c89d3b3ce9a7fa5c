"""The number formats a safetensors file can hold, and the names people use for them.

A format is named as in the file header ("BF16"); torch is imported only when a torch dtype is asked for.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mergecore.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class NumberFormat:
    """One number format: its name in headers, its torch name (if torch has it), its width."""

    name: str
    torch_name: str | None
    bits: int
    floating: bool = False


DTYPES: dict[str, NumberFormat] = {
    dtype.name: dtype
    for dtype in (
        NumberFormat("F64", "float64", 64, floating=True),
        NumberFormat("F32", "float32", 32, floating=True),
        NumberFormat("F16", "float16", 16, floating=True),
        NumberFormat("BF16", "bfloat16", 16, floating=True),
        NumberFormat("I64", "int64", 64),
        NumberFormat("I32", "int32", 32),
        NumberFormat("I16", "int16", 16),
        NumberFormat("I8", "int8", 8),
        NumberFormat("U64", "uint64", 64),
        NumberFormat("U32", "uint32", 32),
        NumberFormat("U16", "uint16", 16),
        NumberFormat("U8", "uint8", 8),
        NumberFormat("BOOL", "bool", 8),
        NumberFormat("C64", "complex64", 64),
        NumberFormat("F8_E4M3", "float8_e4m3fn", 8),
        NumberFormat("F8_E5M2", "float8_e5m2", 8),
        NumberFormat("F8_E4M3FNUZ", "float8_e4m3fnuz", 8),
        NumberFormat("F8_E5M2FNUZ", "float8_e5m2fnuz", 8),
        NumberFormat("F8_E8M0", "float8_e8m0fnu", 8),
        NumberFormat("F6_E2M3", None, 6),
        NumberFormat("F6_E3M2", None, 6),
        NumberFormat("F4", None, 4),
    )
}

MERGEABLE = ("F64", "F32", "F16", "BF16")
"""Formats whose numbers can be averaged; the others are copied or refused."""

_BY_WORD = {DTYPES[name].torch_name: name for name in MERGEABLE}


_SHORT = {
    **dict.fromkeys(("fp16", "f16", "half"), "float16"),
    **dict.fromkeys(("fp32", "f32", "float", "single"), "float32"),
    **dict.fromkeys(("fp64", "f64", "double"), "float64"),
    **dict.fromkeys(("bf16", "bfp16", "brain"), "bfloat16"),
}
"""Names that other tools use."""


def parse_dtype(word: str) -> str:
    """The header name of a dtype written in a config, such as `bfloat16` or `torch.float16`.

    Raises:
        ConfigError: E105, naming the dtypes that can be written.
    """
    name = _BY_WORD.get(word.removeprefix("torch."))
    if name is None:
        known = [key for key in _BY_WORD if key]
        raise ConfigError(
            "E105",
            f"unknown dtype '{word}'{did_you_mean(_SHORT.get(word.lower(), word), known)}",
            hint=f"write one of {', '.join(known)}",
        )
    return name


@functools.cache
def torch_dtype(name: str) -> torch.dtype:
    """The torch dtype of a header name."""
    import torch

    dtype = getattr(torch, DTYPES[name].torch_name or "")
    assert isinstance(dtype, torch.dtype)
    return dtype


def promoted(names: Sequence[str]) -> str:
    """The narrowest mergeable format that holds all of `names`; two different 16-bit ones need F32."""
    if "F64" in names:
        return "F64"
    return names[0] if len(set(names)) == 1 else "F32"


def nbytes(name: str, shape: tuple[int, ...]) -> int:
    """Bytes that a tensor takes on disk."""
    return (math.prod(shape) * DTYPES[name].bits + 7) // 8
