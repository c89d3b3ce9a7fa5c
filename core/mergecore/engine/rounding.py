"""Rounding numbers once, to the nearest of the output format, ties to even."""

from __future__ import annotations

import torch
from torch import Tensor


def round_into(out: Tensor, numbers: Tensor) -> None:
    """Fill `out` with `numbers`, rounded to its dtype.

    torch takes float64 to the formats of 16 bits by way of float32, and would so round twice.
    """
    if numbers.dtype == torch.float64 and out.dtype in (torch.bfloat16, torch.float16):
        numbers = _to_odd(numbers)
    out.copy_(numbers)


def _to_odd(numbers: Tensor) -> Tensor:
    """float32 from float64, where what is inexact gets an odd last bit: rounding that once more is rounding once."""
    near = numbers.float()
    inexact = near.double() != numbers
    away = near.double().abs() > numbers.abs()
    bits = near.view(torch.int32)
    return torch.where(inexact, (bits - away.int()) | 1, bits).view(torch.float32)
