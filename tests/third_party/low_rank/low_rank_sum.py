"""A tensor W + scale · B A that is computed while it is read, block by block."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mergecore.types import Computed, Reader, extra_memory_of


@dataclass(frozen=True)
class LowRankSum(Computed):
    """Its parts are W (rows, columns), B (rows, rank) and A (rank, columns)."""

    scale: float

    @property
    def extra_memory(self) -> tuple[int, int]:
        (rows, columns), (_, rank), _ = (part.shape for part in self.parts)
        rows = min(rows, 2 + 2**18 // columns)  # of a block
        once, each = extra_memory_of(self.parts)
        return once, each + 8 * (rank * (rows + columns) + rows * columns)

    def load(self, reader: Reader, start: int, stop: int, into: Tensor) -> None:
        whole, up, down = self.parts
        rank, columns = down.shape
        first, last = start // columns, -(-stop // columns)
        whole.load(reader, start, stop, into)
        with (
            reader.room((last - first, rank), into.dtype) as b,
            reader.room((rank, columns), into.dtype) as a,
            reader.room((last - first, columns), into.dtype) as product,
        ):
            up.load(reader, first * rank, last * rank, b.view(-1))
            down.load(reader, 0, rank * columns, a.view(-1))
            torch.mm(b, a, out=product)
            into.add_(product.view(-1)[start - first * columns :][: stop - start], alpha=self.scale)
