"""Sums that come out the same on every machine: a tree of elementwise additions, the last levels in float64.

Library sums and dot products depend on the width of the vector unit; a fixed tree depends on IEEE rules only.
Multiply and add apart: what does both at once (`addcmul`, `add` with `alpha`) is rounded once on machines with a
fused multiply-add and twice on others.
"""

from __future__ import annotations

import threading
from types import ModuleType
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from mergecore.compute.scratch import Scratch

Array: TypeAlias = Any
"""Numbers as the library has them that computes."""

_FLOAT32_LEVELS_END = 1024
_PRODUCTS = 2**18 + 2**17
"""So many products are made at once, which stay in the cache: 2^16 of each pair of three inputs."""

_FEW = 2**14
"""So many numbers are added up faster by numpy, wherever they are."""

_ROWS = 64
"""Up to so many rows numpy is faster on the host: a call of it costs less than one of torch, a row of it more."""

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
    library, numbers = _numbers(x)
    with _quiet():
        return torch.from_numpy(_tree_sum(library, numbers, float32_until)).to(x.device)


def gram(x: Tensor) -> Tensor:
    """Dot products of the rows of `x` (…, n, m) with each other, in float64 (…, n, n).

    Products that float32 cannot hold, or holds with few bits only, are computed again in float64.
    """
    return gram_within(x, None)


def gram_within(x: Tensor, scratch: Scratch | None) -> Tensor:
    """The same with memory for what is made on the way, which need not be allocated for every block."""
    with _quiet():
        products = _gram(x, scratch)
        if _lost_bits(x, products):
            products = _gram(x.double(), None)
    return torch.from_numpy(products).to(x.device)


def _quiet() -> np.errstate:
    """Let numbers overflow without a word: whoever asked for the sums looks at them."""
    return np.errstate(over="ignore", invalid="ignore", under="ignore")


def _lost_bits(x: Tensor, products: Array) -> bool:
    if not np.isfinite(products).all():
        return True
    squares = products.diagonal(axis1=-2, axis2=-1)
    if not squares.size or squares.min() >= _TINY:
        return False
    return bool(((squares < _TINY) & (x != 0).any(-1).cpu().numpy()).any())


def _gram(x: Tensor, scratch: Scratch | None) -> Array:
    """The dot products, in numpy, exact or not."""
    library, numbers = _numbers(x)
    n, m = x.shape[-2:]
    pairs = n * (n + 1) // 2
    few = max(1, min(m, max(_FLOAT32_LEVELS_END, _PRODUCTS // max(1, pairs))))
    total = _buffer(library, scratch, x, "sums", (*x.shape[:-2], pairs, min(m, few)))
    _multiply(library, numbers[..., :few], total)
    for start in range(few, m, few):
        stretch = numbers[..., start : start + few]
        products = _buffer(library, scratch, x, "products", (*x.shape[:-2], pairs, stretch.shape[-1]))
        _multiply(library, stretch, products)
        _add_to(library, total, products)
    # float64 is for what the cache holds
    sums = _tree_sum(library, total, min(max(64, few // 16), _FLOAT32_LEVELS_END))
    out = np.empty((*x.shape[:-2], n, n))
    at = 0
    for i in range(n):
        row = sums[..., at : at + n - i]
        out[..., i, i:] = row
        out[..., i:, i] = row
        at += n - i
    return out


def _multiply(library: ModuleType, x: Array, out: Array) -> None:
    """Fill `out` (…, pairs, m) with the products of each row of `x` (…, n, m) with itself and those after it."""
    n = x.shape[-2]
    at = 0
    for i in range(n):
        library.multiply(x[..., i : i + 1, :], x[..., i:, :], out=out[..., at : at + n - i, :])
        at += n - i


def _tree_sum(library: ModuleType, x: Array, float32_until: int) -> Array:
    """As `tree_sum`, in numpy."""
    while x.shape[-1] > float32_until:
        x = _halved(library, x)
    if library is torch:
        x = x.double()
        while x.shape[-1] > 1 and x.numel() > _FEW:
            x = _halved(library, x)
        x = x.cpu().numpy()
    x = x.astype(np.float64)
    while x.shape[-1] > 1:
        x = _halved(np, x)
    return x[..., 0] if x.shape[-1] else np.zeros(x.shape[:-1])


def _halved(library: ModuleType, x: Array) -> Array:
    """The front half of `x` (…, m), with the back half added to it."""
    half = (x.shape[-1] + 1) // 2
    _add_to(library, x, x[..., half:])
    return x[..., :half]


def _add_to(library: ModuleType, x: Array, more: Array) -> None:
    """Add `more` (…, k) to the first numbers of `x` (…, m)."""
    front = x[..., : more.shape[-1]]
    library.add(front, more, out=front)


def _numbers(x: Tensor) -> tuple[ModuleType, Array]:
    """The library to compute with, and `x` (…, m) as its array."""
    if x.device.type == "cpu" and x.numel() <= _ROWS * x.shape[-1]:
        return np, x.numpy()
    return torch, x


def _buffer(
    library: ModuleType, scratch: Scratch | None, x: Tensor, purpose: str, shape: tuple[int, ...]
) -> Array:
    """An array to be filled, where `x` is and of its dtype."""
    memory = scratch.numbers(purpose, shape, x.dtype) if scratch else x.new_empty(shape)
    return memory if library is torch else memory.numpy()
