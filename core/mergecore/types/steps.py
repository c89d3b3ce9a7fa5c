"""Steps of a plan: how one output tensor is made, and from what."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mergecore.types.models import TensorInfo

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from mergecore.types.params import Params


@dataclass(frozen=True, eq=False)
class RowSource:
    """Rows of a stored tensor: `rows[i]` (aligned,) stands for row i of the output, -1 where none does."""

    model: int
    """Index into `Plan.models`."""
    tensor: TensorInfo
    rows: npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class RowMap:
    """How the rows of a tensor, along `axis`, become those of the output while it is read.

    Row i of the output is the mean of what the `sources` have for it, zero where none has anything.  Rows
    from `aligned` up to `size` are padding: the mean of all rows before them.
    """

    axis: int
    size: int
    aligned: int
    sources: tuple[RowSource, ...]
    """At least one: the tensor of the input itself comes first."""


@dataclass(frozen=True)
class TensorInput:
    """One input of a step: which model, which tensor."""

    model: int
    """Index into `Plan.models`."""
    tensor: TensorInfo
    rows: RowMap | None = None
    """How its rows are brought to those of the output; None when they are taken as they are."""

    @property
    def dtypes(self) -> tuple[str, ...]:
        """The dtypes of everything that is read for it."""
        return (self.tensor.dtype, *(one.tensor.dtype for one in (self.rows.sources if self.rows else ())))

    @property
    def reads(self) -> tuple[tuple[int, str], ...]:
        """Model and name of every tensor that is read for it."""
        if self.rows is None and not self.tensor.pieces:
            return ((self.model, self.tensor.name),)
        further = self.rows.sources if self.rows else ()
        read = [(self.model, self.tensor), *((one.model, one.tensor) for one in further)]
        return tuple((model, one.name) for model, tensor in read for one in tensor.stored)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape it has in the step."""
        if self.rows is None:
            return self.tensor.shape
        axis = self.rows.axis
        return (*self.tensor.shape[:axis], self.rows.size, *self.tensor.shape[axis + 1 :])


@dataclass(frozen=True)
class Depth:
    """Where a layer stands in its slice: `index` of `count`; the position of a gradient follows from it."""

    index: int
    count: int

    @property
    def t(self) -> float:
        """0 at the first layer, 1 at the last; a lone layer stands at 1."""
        return self.index / (self.count - 1) if self.count > 1 else 1.0


@dataclass(frozen=True)
class Step:
    """How one output tensor is made.  Without a method it is a copy of its only input."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    inputs: tuple[TensorInput, ...]
    method: str | None = None
    params: Params | None = None
    base: TensorInput | None = None
    depth: Depth | None = None
    role: str = ""
    note: str = ""
    """Why it is copied, or what is unusual."""
    extra: tuple[TensorInput, ...] = ()
    """Matrices of any shape that the method reads beside its inputs, row by row."""

    @property
    def operands(self) -> tuple[TensorInput, ...]:
        """What the method works on: the inputs, and the base behind them."""
        return (*self.inputs, self.base) if self.base else self.inputs

    @property
    def everything(self) -> tuple[TensorInput, ...]:
        """All that is read for it: inputs, base, and what the method reads beside them."""
        return (*self.operands, *self.extra)


BLOCK = 2**18
"""Elements of a block.  Fixed, so that results and digests never depend on memory or threads."""

CANDIDATES = 2**21
"""Elements that the search for one cut may hold in memory at once."""
