"""Reads a tensor with its rows moved, as a `RowMap` says, stretch by stretch; read `MappedRows.load`.

Rows that lie side by side in a file are read at once, also over small gaps; no whole matrix is ever held.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import torch
from torch import Tensor

from mergecore.compute.scratch import Scratch
from mergecore.engine.weights import Fault, WeightFiles, as_bytes, has_nonfinite, nonfinite_places
from mergecore.files.dtypes import torch_dtype
from mergecore.types import RowMap, RowSource, TensorInfo, Workers
from mergecore.types.steps import BLOCK

if TYPE_CHECKING:
    import numpy.typing as npt

    Rows: TypeAlias = npt.NDArray[np.int64]

_GAP = 1 << 13
"""Bytes between two rows that are read along rather than skipped: as long as a call takes."""

_SPANS = 64
"""Parts in which the rows are added for a mean; fixed, as the result depends on it."""


class MappedRows:
    """One input of a step, in the rows of the output."""

    def __init__(
        self, files: WeightFiles, scratch: Scratch, rows: RowMap, name_of: Callable[[int], str]
    ) -> None:
        shape = rows.sources[0].tensor.shape
        self._scratch = scratch
        self._size = rows.size
        self._aligned = rows.aligned
        self._outer = math.prod(shape[: rows.axis])
        self._inner = math.prod(shape[rows.axis + 1 :])
        self._sources = [
            _Source(files, scratch, one, rows.axis, self._inner, name_of(one.model)) for one in rows.sources
        ]
        self._padding = torch.empty((0, 0))

    def prepare(self, crew: Workers) -> None:
        """Find the mean that padding rows get, in a pass over all others; nothing where there are none."""
        if self._size == self._aligned:
            return
        chunk = max(1, BLOCK // self._inner)
        span = chunk * max(1, -(-self._aligned // (chunk * _SPANS)))  # rows
        parts = -(-self._aligned // span)
        sums = np.zeros((self._outer, parts, self._inner))

        def add(index: int) -> None:
            outer, part = divmod(index, parts)
            for first in range(part * span, min((part + 1) * span, self._aligned), chunk):
                count = min(chunk, (part + 1) * span - first, self._aligned - first)
                rows = self._scratch.raw("mean", count * self._inner, torch.float64).view(count, self._inner)
                self._load_rows(outer, first, 0, rows, check=False)
                sums[outer, part] += np.add.reduce(rows.numpy(), axis=0)

        crew.for_each(self._outer * parts, add)
        self._padding = torch.from_numpy(np.add.reduce(sums, axis=1) / max(1, self._aligned))

    def load(self, start: int, stop: int, into: Tensor, check: bool) -> None:
        """Fill `into` (m,) with the elements `start` to `stop` of the tensor as the output has it."""
        on_host = into.device.type == "cpu"
        out = into if on_host else self._scratch.raw("mapped", stop - start, into.dtype)
        at = start
        while at < stop:
            row, column = divmod(at, self._inner)
            outer, first = divmod(row, self._size)
            if column or stop - at < self._inner:
                count, width = 1, min(stop - at, self._inner - column)
            else:
                count, width = min((stop - at) // self._inner, self._size - first), self._inner
            end = at + count * width
            self._fill(outer, first, column, out[at - start : end - start].view(count, width), check)
            at = end
        if not on_host:
            into.copy_(out)

    def faults(self) -> Iterator[tuple[str, TensorInfo, Fault]]:
        """Wrong values in stored tensors, by their places there."""
        for source in self._sources:
            yield source.name, source.tensor, source.fault

    def _fill(self, outer: int, first: int, column: int, out: Tensor, check: bool) -> None:
        """Fill `out` (rows, width) with rows from `first` on, from `column` on."""
        aligned = min(max(self._aligned - first, 0), len(out))
        if aligned < len(out):
            out[aligned:] = self._padding[outer, column : column + out.shape[1]]
        if aligned:
            self._load_rows(outer, first, column, out[:aligned], check)

    def _load_rows(self, outer: int, first: int, column: int, out: Tensor, check: bool) -> None:
        """The same for rows that are no padding: the mean of what the sources have."""
        chosen = [(source, source.rows[first : first + len(out)]) for source in self._sources]
        chosen = [(source, rows) for source, rows in chosen if rows.max() >= 0]
        if len(chosen) == 1 and chosen[0][1].min() >= 0:
            source, rows = chosen[0]
            source.gather(outer, rows, column, out, check)
            return
        out.zero_()
        votes = np.zeros(len(out), dtype=np.int64)
        for source, rows in chosen:
            places = np.flatnonzero(rows >= 0)
            part = self._scratch.raw("part", len(places) * out.shape[1], out.dtype).view(len(places), -1)
            source.gather(outer, rows[places], column, part, check)
            put = out.index_add_ if votes[places].any() else out.index_copy_
            put(0, torch.from_numpy(places), part)
            votes[places] += 1
        shared = np.flatnonzero(votes > 1)
        if len(shared):
            out[torch.from_numpy(shared)] /= torch.from_numpy(votes[shared]).to(out.dtype)[:, None]


class _Source:
    """Rows of one stored tensor."""

    def __init__(
        self, files: WeightFiles, scratch: Scratch, source: RowSource, axis: int, inner: int, name: str
    ) -> None:
        self.name = name
        self.tensor = source.tensor
        self.rows = source.rows
        self.fault = Fault()
        self._files = files
        self._scratch = scratch
        self._stored = source.tensor.shape[axis]
        self._inner = inner
        self._dtype = torch_dtype(source.tensor.dtype)
        self._lock = threading.Lock()

    def gather(self, outer: int, rows: Rows, column: int, out: Tensor, check: bool) -> None:
        """Fill `out` (k, width) with the stored `rows` (k,), from `column` on; k is 1 for a part of a row."""
        direct = out.dtype == self._dtype
        raw = out if direct else self._scratch.raw("rows", out.numel(), self._dtype).view(out.shape)
        order = np.argsort(rows, kind="stable")
        ascending = rows[order]
        for begin, end in self._runs(ascending, raw.shape[1]):
            self._read(outer, ascending[begin:end], order[begin:end], column, raw)
        if check and has_nonfinite(raw.view(-1)):
            self._note(outer, rows, column, raw)
        if not direct:
            out.copy_(raw)

    def _runs(self, ascending: Rows, width: int) -> Iterator[tuple[int, int]]:
        """Where to cut `ascending` so that each part can be read at once, and is no longer than a block."""
        gap = _GAP // (width * self._dtype.itemsize)
        cuts = np.flatnonzero(np.diff(ascending) > 1 + gap) + 1
        longest = max(1, BLOCK // width)
        for begin, end in zip([0, *cuts.tolist()], [*cuts.tolist(), len(ascending)], strict=True):
            while begin < end:
                stop = int(np.searchsorted(ascending[begin:end], ascending[begin] + longest)) + begin
                yield begin, stop
                begin = stop

    def _read(self, outer: int, rows: Rows, places: Rows, column: int, raw: Tensor) -> None:
        """Put the stored `rows`, which ascend and lie close together, at `places` of `raw`."""
        width = raw.shape[1]
        first, count = int(rows[0]), int(rows[-1] - rows[0]) + 1
        byte = ((outer * self._stored + first) * self._inner + column) * self._dtype.itemsize
        at = int(places[0])
        in_line = count == len(rows) and bool(np.all(np.diff(rows) == 1) and np.all(np.diff(places) == 1))
        if in_line:
            self._files.read(self.tensor, byte, as_bytes(raw[at : at + count].view(-1)))
            return
        near = self._scratch.raw("near", count * width, self._dtype)
        self._files.read(self.tensor, byte, as_bytes(near))
        picked = near.view(count, width).index_select(0, torch.from_numpy(rows - first))
        raw.index_copy_(0, torch.from_numpy(places), picked)

    def _note(self, outer: int, rows: Rows, column: int, raw: Tensor) -> None:
        places = nonfinite_places(raw.view(-1)).numpy()
        row, inside = np.divmod(places, raw.shape[1])
        stored = (outer * self._stored + rows[row]) * self._inner + column + inside
        with self._lock:
            self.fault.add(torch.from_numpy(np.sort(stored)))
