"""Rows of a stored or computed matrix, in any order; read `read_rows`.

Rows that lie side by side are read at once, also over small gaps.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, TypeAlias

from mergecore.types.tensors.data import BLOCK, Reader, TensorData

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from torch import Tensor

    RowIds: TypeAlias = npt.NDArray[np.int64]

_GAP = 1 << 13
"""Bytes between two rows that are read along rather than skipped: as long as a call takes."""


def read_rows(reader: Reader, data: TensorData, base: int, inner: int, rows: RowIds, raw: Tensor) -> None:
    """Fill `raw` (k, width) with `rows` (k,); row 0 begins at element `base`, and each is `inner` elements long."""
    import numpy as np

    order = np.argsort(rows, kind="stable")
    ascending = rows[order]
    quiet = reader.unchecked
    for begin, end in _runs(ascending, raw.shape[1], raw.itemsize):
        _read_run(quiet, data, base, inner, ascending[begin:end], order[begin:end], raw)
    if reader.suspects(raw.view(-1)):
        _report(reader, data, base, inner, rows, raw)


def _runs(ascending: RowIds, width: int, itemsize: int) -> Iterator[tuple[int, int]]:
    """Where to cut `ascending` so that each part can be read at once, and is no longer than a block."""
    import numpy as np

    gap = _GAP // (width * itemsize)
    cuts = np.flatnonzero(np.diff(ascending) > 1 + gap) + 1
    longest = max(1, BLOCK // width)
    for begin, end in zip([0, *cuts.tolist()], [*cuts.tolist(), len(ascending)], strict=True):
        while begin < end:
            stop = int(np.searchsorted(ascending[begin:end], ascending[begin] + longest)) + begin
            yield begin, stop
            begin = stop


def _read_run(
    reader: Reader, data: TensorData, base: int, inner: int, rows: RowIds, places: RowIds, raw: Tensor
) -> None:
    """Put `rows`, which ascend and lie close together, at `places` of `raw`."""
    import numpy as np
    import torch

    width = raw.shape[1]
    first, count = int(rows[0]), int(rows[-1] - rows[0]) + 1
    start = base + first * inner
    at = int(places[0])
    in_line = count == len(rows) == int(places[-1]) - at + 1
    if in_line and count > 2:  # the ends alone do not say it
        in_line = bool(np.all(np.diff(rows) == 1) and np.all(np.diff(places) == 1))
    if in_line:
        data.load(reader, start, start + count * width, raw[at : at + count].view(-1))
        return
    with reader.room((count, width), raw.dtype) as near:
        data.load(reader, start, start + count * width, near.view(-1))
        picked = near.index_select(0, torch.from_numpy(rows - first))
        raw.index_copy_(0, torch.from_numpy(places), picked)


def _report(reader: Reader, data: TensorData, base: int, inner: int, rows: RowIds, raw: Tensor) -> None:
    """Read the rows again that are not finite, each alone and once, so that their places are noted."""
    import numpy as np
    import torch

    wrong = rows[(~torch.isfinite(raw).all(dim=1)).numpy()]
    for row in np.unique(wrong).tolist():
        with reader.room((raw.shape[1],), raw.dtype) as again:
            data.load(reader, base + row * inner, base + row * inner + raw.shape[1], again)
