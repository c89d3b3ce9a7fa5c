"""Sums that come out the same on every machine: a tree of elementwise additions, the last levels in float64.

Library sums and dot products depend on the width of the vector unit; a fixed tree depends on IEEE rules only.
Multiply and add apart: what does both at once (`addcmul`, `add` with `alpha`) is rounded once on machines with a
fused multiply-add and twice on others.
"""

from __future__ import annotations

import threading

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

_FLOAT32_LEVELS_END = 1024
_STRETCH = 2**16
"""Products are added up over stretches of this many elements, which stay in the cache."""

_FEW = 2**14
"""Numbers that are added up faster by numpy."""

_TINY = 2.0**-80
"""Sums of squares below this may have lost bits: float32 has its full precision down to 2^-126."""


class OrderedSum:
    """A sum of parts that come in any order; they are added in the order of their numbers."""

    def __init__(self) -> None:
        self.value = torch.zeros((), dtype=torch.float64)
        self._next = 0
        self._early: dict[int, Tensor] = {}
        self._lock = threading.Lock()

    def add(self, index: int, part: Tensor) -> None:
        """Add part `index`, now or as soon as those before it are there; a copy of it."""
        part = part.to("cpu", torch.float64, copy=True)
        with self._lock:
            self._early[index] = part
            while self._next in self._early:
                self.value = self.value + self._early.pop(self._next)
                self._next += 1


def tree_sum(x: Tensor, float32_until: int = _FLOAT32_LEVELS_END) -> Tensor:
    """The sum over the last axis of `x` (…, m), in float64 (…).  Overwrites `x`.

    float32_until: float32 is kept while there are more numbers than this.
    """
    while x.shape[-1] > float32_until:
        x = _halved(x)
    x = x.double()
    while x.shape[-1] > 1 and x.numel() > _FEW:
        x = _halved(x)
    return _rest(x.cpu().numpy()).to(x.device)


def gram(x: Tensor) -> Tensor:
    """Dot products of the rows of `x` (…, n, m) with each other, in float64 (…, n, n).

    Products that float32 cannot hold, or holds with few bits only, are computed again in float64.
    """
    products = _gram(x)
    return _gram(x.double()) if _lost_bits(x, products) else products


def _lost_bits(x: Tensor, products: Tensor) -> bool:
    numbers = products.cpu().numpy()
    if not np.isfinite(numbers).all():
        return True
    squares = products.diagonal(dim1=-2, dim2=-1)
    if not len(squares) or float(squares.min()) >= _TINY:
        return False
    return bool(((squares < _TINY) & (x != 0).any(-1)).any())


def _gram(x: Tensor) -> Tensor:
    n = x.shape[-2]
    first, *others = x.split(_STRETCH, dim=-1)
    total = x.new_empty((*x.shape[:-2], n * (n + 1) // 2, first.shape[-1]))  # (…, pairs, few)
    _multiply(first, total)
    if others:
        products = torch.empty_like(total)
        for stretch in others:
            width = stretch.shape[-1]
            _multiply(stretch, products[..., :width])
            total[..., :width] += products[..., :width]
    few = max(64, first.shape[-1] // 16)  # float64 is for what the cache holds
    sums = tree_sum(total, min(few, _FLOAT32_LEVELS_END))
    one, two = torch.triu_indices(n, n)
    out = x.new_empty((*x.shape[:-2], n, n), dtype=torch.float64)
    out[..., one, two] = sums
    out[..., two, one] = sums
    return out


def _multiply(x: Tensor, out: Tensor) -> None:
    """Fill `out` (…, pairs, m) with the products of each row of `x` (…, n, m) with itself and those after it."""
    n = x.shape[-2]
    at = 0
    for i in range(n):
        torch.mul(x[..., i : i + 1, :], x[..., i:, :], out=out[..., at : at + n - i, :])
        at += n - i


def _halved(x: Tensor) -> Tensor:
    size = x.shape[-1]
    half = (size + 1) // 2
    x[..., : size - half] += x[..., half:]
    return x[..., :half]


def _rest(x: npt.NDArray[np.float64]) -> Tensor:
    """The sum over the last axis of a few numbers: the same tree, where numpy takes a third of torch's time."""
    with np.errstate(over="ignore", invalid="ignore"):  # whoever asked for the sum looks at it
        while (size := x.shape[-1]) > 1:
            half = (size + 1) // 2
            front = x[..., : size - half]
            np.add(front, x[..., half:], out=front)
            x = x[..., :half]
    return torch.from_numpy(x[..., 0] if x.shape[-1] else np.zeros(x.shape[:-1]))
