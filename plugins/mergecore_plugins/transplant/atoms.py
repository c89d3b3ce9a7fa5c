"""The rows of the tokens that both vocabularies have, to which the row of another token is compared.

They are kept in the dtype they are stored in and computed with in float32, chunk by chunk of a fixed size.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

CHUNK = 1 << 22
"""Elements of the rows that are computed with at once; fixed, since rounding depends on it."""


class Atoms:
    """Rows (n, columns) in the space of the donor less `origin`, with their norms."""

    def __init__(self, rows: Tensor, origin: Tensor | None = None) -> None:
        """`origin` is (columns,) in float64; nothing for 0."""
        self.rows = rows
        self.origin = origin
        self.norms = torch.cat([chunk.norm(dim=1) for _, chunk in self.chunks()])
        self.inverse_norms = torch.where(self.norms > 0, 1 / self.norms, 0.0)

    def __len__(self) -> int:
        return len(self.rows)

    def chunks(self) -> Iterator[tuple[int, Tensor]]:
        """Consecutive rows in float32, each with the index of its first one."""
        size = max(1, CHUNK // max(1, self.rows.shape[1]))
        for first in range(0, len(self.rows), size):
            chunk = self.rows[first : first + size].to(torch.float32)
            yield first, chunk if self.origin is None else chunk - self.origin.to(torch.float32)

    def take(self, index: Tensor) -> Tensor:
        """The rows at `index`, of any shape, in float64: (*index.shape, columns)."""
        return self.moved(self.rows[index])

    def moved(self, rows: Tensor) -> Tensor:
        """Rows of the donor's space (*, columns) less the origin, float64."""
        rows = rows.to(torch.float64)
        return rows if self.origin is None else rows - self.origin


def combined(weights: Tensor, index: Tensor, rows: Tensor) -> Tensor:
    """For each row of `weights` (b, k) the sum of the `rows` at `index` (b, k) with these weights, float64."""
    made = torch.empty((len(index), rows.shape[1]), dtype=torch.float64)
    for one, (weight, places) in enumerate(zip(weights, index, strict=True)):
        torch.mv(rows[places].to(torch.float64).T, weight, out=made[one])
    return made
