"""What a merge method sees: the inputs of one output tensor, whole or in blocks.  Read `TensorGroup`.

These are the contract; `mergecore.compute` implements it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias

from mergecore.files.strict_json import Json

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import torch
    from torch import Tensor

    from mergecore.types.outputs import OutputTensor
    from mergecore.types.steps import Depth

MapBlock: TypeAlias = "Callable[[Block], Tensor]"
MakeStretches: TypeAlias = "Callable[[Block], Iterable[tuple[int, int, Tensor]]]"
"""Number of the output, its first element, and the numbers of a stretch."""


@dataclass(frozen=True)
class Blocks:
    """The promise that `TensorGroup.map` or `scatter` has written all that is to be made; only they give one."""

    count: int
    """How many blocks were written."""


class Block(Protocol):
    """A stretch of one tensor, the elements `start` to `stop` in C order.

    `x` is (n, m), or (n, rows, columns) when rows were asked for, in float32 or float64: the tensors, or
    their differences to the base.  It is yours: it may be overwritten, and is lost when the function returns.
    """

    @property
    def index(self) -> int:
        """Its place among the blocks of the pass."""

    @property
    def start(self) -> int:
        """The first element."""

    @property
    def stop(self) -> int:
        """The first element after it."""

    @property
    def x(self) -> Tensor:
        """The numbers."""

    @property
    def base(self) -> Tensor | None:
        """(m,) or (rows, columns); the base that is none of the inputs, else None."""

    def uniform(self, i: int, purpose: str = "uniform") -> Tensor:
        """Numbers in [0, 1), one for each element, that depend on seed, tensor, model `i` and position only."""

    def mask(self, i: int, probability: float, purpose: str = "mask") -> Tensor:
        """True with `probability` at each element, by the same rule as `uniform`."""


class Cut(Protocol):
    """A cut that keeps exactly k magnitudes: all above `value`, and those equal to it that come first."""

    @property
    def value(self) -> float:
        """The smallest magnitude that is kept, as far as it is needed."""

    def trim_(self, x: Tensor, index: int) -> Tensor:
        """Zero what the cut leaves out of `x` (m,), the numbers of flat block `index`; in place."""


class Matrix(Protocol):
    """A matrix (rows, columns) that a step reads beside its inputs, its rows in the order that the step asks for.

    It may have fewer or more axes: rows run along the first one.
    """

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows and columns; the shape of a tensor that is no matrix."""

    @property
    def dtype(self) -> torch.dtype:
        """That of the stored numbers."""

    @property
    def known(self) -> npt.NDArray[np.bool_]:
        """For each row, whether any is stored for it; the others are zero, or padding."""

    def read(self, first: int, stop: int, dtype: torch.dtype = ...) -> Tensor:
        """The rows from `first` up to `stop`, (stop - first, *shape[1:]); float32 unless said otherwise."""

    def whole(self) -> Tensor:
        """All rows in the dtype that is stored, which the memory has to hold."""

    def raise_faults(self) -> None:
        """Raise E234 for numbers that are not finite among those read so far."""


class FactorGroup(Protocol):
    """The inputs of one output tensor that are products of two factors each, as `merge_factors` sees them."""

    @property
    def name(self) -> str:
        """That of the tensor whose changes they are."""

    @property
    def factors(self) -> Sequence[tuple[Tensor, Tensor]]:
        """Of each input B (m, r) and A (r, n), float64; the input is B A, and r is 0 where it is zero."""

    def uniform(self, count: int, purpose: str = "uniform") -> Tensor:
        """`count` numbers in [0, 1), float32, that depend on seed, tensor and purpose only."""


class TensorGroup(Protocol):
    """The inputs of one output tensor, as a merge method sees them.

    Nothing is read before it is asked for: `map` makes the result in one pass, `reduce` and `kth_largest`
    make earlier passes, `x` reads everything into memory.  There is always at least one element.
    """

    @property
    def name(self) -> str:
        """That of the output tensor; of the first, where there are several."""

    @property
    def shape(self) -> tuple[int, ...]:
        """That of each input, and of the output tensor of a merge."""

    @property
    def outputs(self) -> Sequence[OutputTensor]:
        """What is to be made: in a merge one tensor, in a step of a recipe perhaps several, of other shapes."""

    @property
    def n(self) -> int:
        """How many inputs there are, the base not counted that is none of them."""

    @property
    def count(self) -> int:
        """The elements of one input."""

    @property
    def dtype(self) -> torch.dtype:
        """In which it is computed: float32, or float64 where an input is."""

    @property
    def device(self) -> torch.device:
        """Where the numbers are."""

    @property
    def layer(self) -> Depth | None:
        """Where its layer stands in its slice; None outside of layers."""

    @property
    def role(self) -> str:
        """What the tensor does, such as `attn.q`; empty where that is not known."""

    @property
    def index(self) -> int:
        """Its place among the groups of its method, in the order of the plan."""

    @property
    def models(self) -> tuple[int, ...]:
        """Which model each input is of, as a number: equal ones are of one model."""

    @property
    def state(self) -> Json:
        """What the method's `prepare` returned."""

    @property
    def matrices(self) -> Sequence[Matrix]:
        """What the step reads beside its inputs."""

    @property
    def blocks(self) -> int:
        """How many blocks a pass without `rows` has."""

    @property
    def x(self) -> Tensor:
        """All inputs, whole: (n, *shape).  Costs the memory of n float32 tensors.

        A method that reads it says `needs_whole_tensors`.
        """

    def map(self, merge_block: MapBlock, rows: bool = False) -> Blocks:
        """Make the result block by block: `merge_block` returns the merged numbers, of the shape of `x[0]`."""

    def scatter(self, make_stretches: MakeStretches, rows: bool = False) -> Blocks:
        """Make outputs of any shapes from blocks of the inputs; `map` is for one of the shape of the inputs.

        `make_stretches(block)` gives stretches of the outputs: the number of an output, its first element, and
        the numbers, in C order.  Together they are every element of every output, once.  No base is added.
        """

    def map_columns(self, merge_block: MapBlock) -> Blocks:
        """`map` with blocks of whole columns, which run along the first axis: x is (n, shape[0], columns).

        For tensors of three and more axes; a matrix is read faster by rows.  Such a block has no `uniform`.
        """

    def reduce(self, measure_block: MapBlock, rows: bool = False) -> Tensor:
        """The float64 sum over all blocks, in block order, of what `measure_block` returns."""

    def visit(self, see: Callable[[Block], None], rows: bool = False) -> None:
        """Call `see` with every block, in any order and from any thread: a pass that returns nothing."""

    def gram(self) -> Tensor:
        """Dot products of the inputs with each other over all elements, float64 (n, n)."""

    def uniform(self, count: int, purpose: str = "uniform") -> Tensor:
        """`count` numbers in [0, 1), float32, that depend on seed, tensor and purpose only; a `Block` has its own."""

    def kth_largest(self, i: int, density: float) -> Cut:
        """The cut that keeps the `density` fraction of largest magnitudes of input `i`, exactly.

        It goes by position in flat blocks: trim in a `map` without `rows`.
        """

    def cuts_each(self, counts: Sequence[Sequence[int]]) -> Sequence[Sequence[Cut]]:
        """For each input the cuts that keep its `counts[i]` largest magnitudes; all share their passes."""

    def cut_of(self, quantity: MapBlock, k: int | Callable[[int], int]) -> Cut:
        """The cut that keeps the `k` largest magnitudes of a quantity with one number for each element.

        `quantity(block)` is (m,), of the dtype of the group; it is computed again in every pass.  `k` may be a
        function: it is then given how many of the numbers are not 0.
        """

    def largest_of(self, quantity: MapBlock, ranks: Sequence[int], rows: bool = False) -> list[float]:
        """The r-th largest magnitude of a quantity, for each r of `ranks`; 1 is the largest.

        The quantity is one as for `cut_of`; (rows, columns) with `rows`.
        """
