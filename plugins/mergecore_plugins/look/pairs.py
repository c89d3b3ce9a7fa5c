"""Sums over the numbers of two tensors, from which norms, cosines and shares follow; read `Pair`."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from mergecore.types import Matrix

CHUNK = 1 << 19
"""Entries that are looked at at a time, of each model, in float64."""


@dataclass(frozen=True)
class Pair:
    """Sums over the entries of two tensors of one shape, or of many such tensors; `+` joins them."""

    count: int = 0
    first: float = 0.0
    """Sum of squares of the first."""
    second: float = 0.0
    dot: float = 0.0
    delta: float = 0.0
    """Sum of squares of second - first."""
    largest: float = 0.0
    """The largest magnitude of an entry of second - first."""
    changed: int = 0
    """Entries that differ, once both are rounded to the coarser of the two formats."""
    signed: int = 0
    """Entries that are zero in neither."""
    agreeing: int = 0
    """How many of these have one sign."""

    def __add__(self, other: Pair) -> Pair:
        return Pair(
            self.count + other.count,
            self.first + other.first,
            self.second + other.second,
            self.dot + other.dot,
            self.delta + other.delta,
            max(self.largest, other.largest),
            self.changed + other.changed,
            self.signed + other.signed,
            self.agreeing + other.agreeing,
        )

    @property
    def relative(self) -> float | None:
        """|second - first| / |first|, Frobenius norms; None where the first is zero."""
        return math.sqrt(self.delta / self.first) if self.first else None

    @property
    def cosine(self) -> float | None:
        """Of the angle between the two; None where one is zero."""
        length = math.sqrt(self.first) * math.sqrt(self.second)
        return max(-1.0, min(1.0, self.dot / length)) if length else None

    @property
    def same_sign(self) -> float | None:
        """The share of entries with one sign, of those that are zero in neither."""
        return self.agreeing / self.signed if self.signed else None

    @property
    def share_changed(self) -> float | None:
        """The share of entries that differ; None where there are none."""
        return self.changed / self.count if self.count else None


def pair(first: Tensor, second: Tensor, coarser: torch.dtype | None = None) -> Pair:
    """The sums over two tensors of one shape, float64, in this order of their entries.

    coarser: what both are rounded to before it is counted which entries differ; None to compare them as they are.
    """
    first, second = first.reshape(-1), second.reshape(-1)
    delta = second - first
    differ = delta != 0 if coarser is None else first.to(coarser) != second.to(coarser)
    product = first * second
    return Pair(
        count=first.numel(),
        first=float(first @ first),
        second=float(second @ second),
        dot=float(product.sum()),
        delta=float(delta @ delta),
        largest=float(delta.abs_().max()) if first.numel() else 0.0,
        changed=int(differ.sum()),
        signed=int((product != 0).sum()),
        agreeing=int((product > 0).sum()),
    )


def chunks(each: Sequence[Matrix], size: int = CHUNK) -> Iterator[list[Tensor]]:
    """The same rows of every matrix, float64; some `size` entries of each."""
    import torch

    shape = each[0].shape
    rows = shape[0] if shape else 1
    step = max(1, size // max(1, math.prod(shape[1:])))
    for begin in range(0, rows, step):
        yield [one.read(begin, min(begin + step, rows), torch.float64) for one in each]


def coarser(one: str, other: str) -> torch.dtype | None:
    """The format with the fewer digits of two, which both are rounded to; None where they are one."""
    import torch

    rounding = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
    return None if one == other else [rounding[name] for name in rounding if name in (one, other)][-1]


def effective_rank(delta: Tensor) -> float:
    """exp(entropy) of the normalised singular values of a matrix, 0 for zero (Roy and Vetterli 2007); float64."""
    import torch

    rows = (delta if delta.shape[0] <= delta.shape[1] else delta.T).double()
    found = rows @ rows.T
    values = torch.linalg.eigvalsh(found).clamp_(min=0).sqrt_()
    if not float(values.sum()):
        return 0.0
    shares = values / values.sum()
    return math.exp(float(-(shares * shares.clamp(min=1e-300).log()).sum()))
