"""Running the steps of a plan block by block; `StreamedGroup` is what a merge method sees of it.

A tensor is cut into blocks of fixed size.  The blocks of one pass may run on any worker in any order; sums
over blocks are added in block order.  So the bytes do not depend on threads or memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mergecore.compute import philox
from mergecore.compute.block import StreamedBlock, kind_of, numbers_of, tensor_of, told, wrong
from mergecore.compute.coverage import Coverage
from mergecore.compute.matrices import ExtraRows
from mergecore.compute.reduction import OrderedSum, gram, gram_within
from mergecore.compute.scratch import Scratch
from mergecore.compute.streams import Inputs, Sink
from mergecore.compute.topk.one_tensor import ExactCut, Search, Wanted, kept_count, keys_of, look_for
from mergecore.errors import InputError
from mergecore.types import Block, Blocks, Depth, Json, MergeMethod, OutputTensor, Workers
from mergecore.types.groups import MakeStretches, MapBlock
from mergecore.types.steps import BLOCK

SAMPLE = 1 << 18
"""At most so many elements of an input are looked at to guess where a cut is."""


def merge_group(method: MergeMethod[Any], group: StreamedGroup, params: Any) -> None:
    """Let `method` make the result of `group` and put it into the sink.

    Raises:
        PluginError: E605 when what it returns is not a result.
    """
    merged = method.merge(group, params)
    if isinstance(merged, Tensor | tuple):
        group.put_whole(merged if isinstance(merged, tuple) else (merged,))
    elif not isinstance(merged, Blocks):
        raise wrong(f"it returned {kind_of(merged)}, not a tensor or what `map` returns")
    elif not group.finished:
        raise wrong("it returned blocks that `map` did not make")


class StreamedGroup:
    """The inputs of one output tensor, as a merge method sees them.

    Nothing is read before it is asked for: `map` makes the result in one pass, `reduce` and `kth_largest`
    make earlier passes, `x` reads everything into memory.  There is always at least one element.
    """

    def __init__(
        self,
        *,
        name: str,
        shape: tuple[int, ...],
        n: int,
        inputs: Inputs,
        sink: Sink,
        crew: Workers,
        scratch: Scratch,
        dtype: torch.dtype = torch.float32,
        delta: bool = False,
        apart: bool = False,
        seed: int = 0,
        depth: Depth | None = None,
        role: str = "",
        index: int = 0,
        models: Sequence[int] = (),
        state: Json = None,
        matrices: Sequence[ExtraRows] = (),
        needs_whole_tensors: bool = True,
        outputs: Sequence[OutputTensor] = (),
    ) -> None:
        """Without `outputs`, one tensor like the inputs is made; `x` is there for `needs_whole_tensors`."""
        self.name = name
        self.shape = shape
        self.outputs = tuple(outputs) or (OutputTensor(name, "F32", shape),)
        self.n = n
        self.dtype = dtype
        self.layer = depth
        self.role = role
        self.index = index
        self.models = tuple(models)
        """Which model each input is of, as a number: equal ones are of one model."""
        self.state = state
        """What the method's `prepare` returned."""
        self.matrices = tuple(matrices)
        """What the step reads beside its inputs."""
        self.count = torch.Size(shape).numel()
        self.finished = False
        """Whether the result is written."""
        self._inputs = inputs
        self._sink = sink
        self._crew = crew
        self._scratch = scratch
        self._delta, self._apart = delta, apart
        self._seed = seed
        self._passing = False
        self._whole = needs_whole_tensors

    @property
    def device(self) -> torch.device:
        """Where the numbers are."""
        return self._scratch.device

    @property
    def block_size(self) -> int:
        """The elements of a block without `rows`; always the same but in tests of methods."""
        return BLOCK

    @property
    def blocks(self) -> int:
        """How many blocks a pass without `rows` has."""
        return -(-self.count // self.block_size)

    @property
    def x(self) -> Tensor:
        """All inputs, whole: (n, *shape).  Costs the memory of n float32 tensors."""
        if not self._whole:
            raise wrong("it reads `x`, all inputs at once, and does not say needs_whole_tensors=True")
        whole = torch.empty((self.n, self.count), dtype=self.dtype, device=self.device)

        def copy(block: Block) -> None:
            whole[:, block.start : block.stop] = block.x

        self._each(copy)
        return whole.view(self.n, *self.shape)

    def map(self, merge_block: MapBlock, rows: bool = False) -> Blocks:
        """Make the result block by block: `merge_block` returns the merged numbers, of the shape of `x[0]`."""
        self._check_alike("map")

        def work(block: StreamedBlock) -> None:
            self._put(block, tensor_of(merge_block(block)))

        return Blocks(self._each(work, rows, final=True))

    def scatter(self, make_stretches: MakeStretches, rows: bool = False) -> Blocks:
        """Make the results from blocks of the inputs: `make_stretches` gives stretches of outputs.

        Each is the number of an output, the first element, and the numbers after one another; together they
        are every element of every output, once.  Nothing is added to them.
        """
        made = Coverage([one.count for one in self.outputs])

        def work(block: StreamedBlock) -> None:
            for output, start, numbers in make_stretches(block):
                flat = numbers_of(tensor_of(numbers)).reshape(-1)
                made.add(output, start, len(flat))
                self._sink.put(output, start, flat)

        blocks = Blocks(self._each(work, rows, final=True))
        for output, what in made.faults():
            raise wrong(f"it makes {what} of tensor '{self.outputs[output].name}'")
        return blocks

    def map_columns(self, merge_block: MapBlock) -> Blocks:
        """`map` with blocks of whole columns, which run along the first axis: x is (n, shape[0], columns)."""
        self._check_alike("map_columns")
        height = self.shape[0]
        width = self.count // height
        size = max(1, self.block_size // height)

        def run(index: int) -> None:
            start, stop = index * size, min((index + 1) * size, width)
            spans = [(row * width + start, row * width + stop) for row in range(height)]
            x, base = self._read(spans)
            x = x.view(self.n, height, stop - start)
            block = StreamedBlock(index, start, stop, x, base, self._seed, self.name)
            result = self._completed(block, tensor_of(merge_block(block))).view(height, stop - start)
            for (first, _), numbers in zip(spans, result, strict=True):
                self._sink.put(0, first, numbers)

        return Blocks(self._run(-(-width // size), run, final=True))

    def reduce(self, measure_block: MapBlock, rows: bool = False) -> Tensor:
        """The float64 sum over all blocks, in block order, of what `measure_block` returns."""
        return self._sum(measure_block, rows)

    def visit(self, see: Callable[[Block], None], rows: bool = False) -> None:
        """Call `see` with every block, in any order and from any thread: a pass that returns nothing."""
        self._each(see, rows)

    def gram(self) -> Tensor:
        """Dot products of the inputs with each other over all elements, float64 (n, n)."""
        products = self._sum(lambda block: gram_within(block.x, self._scratch), check=False)
        if torch.isfinite(products).all():  # so is then every number: there is nothing left to look for
            self._inputs.raise_faults()
            return products
        return self._sum(lambda block: gram(block.x))

    def uniform(self, count: int, purpose: str = "uniform") -> Tensor:
        """`count` numbers in [0, 1), float32, that depend on seed, tensor and purpose only."""
        key = philox.random_key(self._seed, self.name, "", purpose)
        return torch.from_numpy(philox.uniform(philox.random_words(key, 0, count))).to(self.device)

    def kth_largest(self, i: int, density: float) -> ExactCut:
        """The cut that keeps the `density` fraction of largest magnitudes of input `i`, exactly.

        It goes by position in flat blocks: trim in a `map` without `rows`.
        """
        counts = [kept_count(density, self.count) if j == i else self.count for j in range(self.n)]
        return self.cuts_each([[k] for k in counts])[i][0]

    def cuts_each(self, counts: Sequence[Sequence[int]]) -> list[list[ExactCut]]:
        """For each input the cuts that keep its `counts[i]` largest magnitudes; all share their passes."""
        searches = [[self._search(k, sharing=len(row)) for k in row] for row in counts]

        def look(block: Block) -> None:
            for x, row in zip(block.x, searches, strict=True):
                look_for([search for search in row if not search.found], block.index, x)

        self._scout(searches)
        self._found([search for row in searches for search in row], look)
        return [[search.cut for search in row] for row in searches]

    def cut_of(self, quantity: MapBlock, k: Wanted) -> ExactCut:
        """The cut that keeps the `k` largest magnitudes of a quantity with one number for each element."""
        search = self._search(k)
        return self._found([search], lambda block: search.look(block.index, tensor_of(quantity(block))))[0]

    def largest_of(self, quantity: MapBlock, ranks: Sequence[int], rows: bool = False) -> list[float]:
        """The r-th largest magnitude of a quantity, for each r of `ranks`; 1 is the largest.

        The quantity is one as for `cut_of`; (rows, columns) with `rows`.
        """
        searches = [self._search(rank, rows, value=True) for rank in ranks]

        def look(block: Block) -> None:
            pending = [search for search in searches if not search.found]
            look_for(pending, block.index, tensor_of(quantity(block)))

        return [cut.value for cut in self._found(searches, look, rows)]

    def _scout(self, searches: Sequence[Sequence[Search]]) -> None:
        """Let the searches of each input guess from a sample, which stands in for a pass over everything."""
        spans = max(1, 8 // max(1, self.blocks))
        size = min(self.count // 64, SAMPLE) // max(1, self.blocks * spans)
        if size < 128 or all(search.found for row in searches for search in row):
            return
        samples: list[npt.NDArray[Any]] = [np.empty(0)] * self.blocks

        def run(index: int) -> None:
            start = index * self.block_size
            step = (min(start + self.block_size, self.count) - start) // spans
            starts = [start + i * step for i in range(spans)]
            x, _ = self._read([(at, at + min(step, size)) for at in starts], check=False)
            samples[index] = keys_of(x.cpu().numpy())

        self._crew.for_each(self.blocks, run)
        for row, sample in zip(searches, np.concatenate(samples, axis=1), strict=True):
            sample.sort()
            for search in row:
                search.guess(sample)

    def put_whole(self, results: Sequence[Tensor]) -> None:
        """Write results that were computed as whole tensors, one for each output."""
        if len(results) != len(self.outputs):
            raise wrong(f"it returned {len(results)} tensors, and {len(self.outputs)} are to be made")
        for one, result in zip(self.outputs, results, strict=True):
            if tensor_of(result).shape != one.shape:
                raise wrong(f"it returned {told(result)} for a tensor of {list(one.shape)}")
        flats = [result.reshape(-1) for result in results]
        if self._alike:
            self._each(lambda block: self._put(block, flats[0][block.start : block.stop]), final=True)
            return
        size = self.block_size
        blocks = [(i, start) for i, flat in enumerate(flats) for start in range(0, len(flat), size)]

        def put(index: int) -> None:
            output, start = blocks[index]
            self._sink.put(output, start, numbers_of(flats[output][start : start + size]))

        self._run(len(blocks), put, final=True)

    @property
    def _alike(self) -> bool:
        """Whether a single tensor is made, of the shape of the inputs: to it, a base is added back."""
        return len(self.outputs) == 1 and self.outputs[0].shape == self.shape

    def _check_alike(self, call: str) -> None:
        if not self._alike:
            made = ", ".join(str(list(one.shape)) for one in self.outputs)
            what = f"it uses `{call}`, which makes one tensor of the shape of the inputs, {list(self.shape)}"
            raise wrong(f"{what}; here {made} is to be made: return whole tensors, or use `scatter`")

    def _sum(self, measure_block: MapBlock, rows: bool = False, check: bool = True) -> Tensor:
        total = OrderedSum()
        self._each(lambda block: total.add(block.index, tensor_of(measure_block(block))), rows, check=check)
        return total.value

    def _each(
        self,
        work: Callable[[StreamedBlock], None],
        rows: bool = False,
        final: bool = False,
        check: bool = True,
    ) -> int:
        """Call `work` with every block; how many there are.

        final: the pass writes the result.  check: it notes numbers that are not finite.
        """
        columns, size = self._sizes(rows)
        count = -(-self.count // size) if self.count else 0

        def run(index: int) -> None:
            start = index * size
            stop = min(start + size, self.count)
            work(self._block(index, start, stop, columns if rows else None, check))

        return self._run(count, run, final, check)

    def _run(self, count: int, run: Callable[[int], None], final: bool, check: bool = True) -> int:
        """Call `run` with the number of every block, in one pass; how many there are."""
        if final and self.finished:
            raise wrong("it makes its result twice")
        with self._pass(check):
            self._crew.for_each(count, run)
        self.finished = self.finished or final
        return count

    def _sizes(self, rows: bool) -> tuple[int, int]:
        """The elements of a row and of a block."""
        columns = self.shape[-1] if rows and self.shape else self.count if rows else 1
        return columns, max(1, self.block_size // max(1, columns)) * columns

    def _search(self, k: Wanted, rows: bool = False, value: bool = False, sharing: int = 1) -> Search:
        blocks = -(-self.count // self._sizes(rows)[1])
        return Search(k, self.count, blocks, self.dtype, value=value, sharing=sharing)

    def _found(
        self, searches: Sequence[Search], look: Callable[[Block], None], rows: bool = False
    ) -> list[ExactCut]:
        """The cuts of `searches`, after as many passes of `look` as they need."""
        while pending := [search for search in searches if not search.found]:
            self._each(look, rows)
            for search in pending:
                search.narrow()
        return [search.cut for search in searches]

    @contextmanager
    def _pass(self, check: bool) -> Iterator[None]:
        """One pass over the inputs; what is wrong with their numbers is reported at its end, if it was looked for."""
        if self._passing:
            raise wrong("it begins a pass over its inputs within another one, whose block would be lost")
        self._passing = True
        try:
            yield
        except InputError:
            raise
        except Exception:
            self._inputs.raise_faults()  # a function that trips over a NaN is not to blame
            raise
        finally:
            self._passing = False
        if check:
            self._inputs.raise_faults()

    def _block(self, index: int, start: int, stop: int, columns: int | None, check: bool) -> StreamedBlock:
        x, base = self._read([(start, stop)], check)
        if columns is not None:
            shape = ((stop - start) // columns, columns)
            x = x.view(self.n, *shape)
            base = base.view(shape) if base is not None else None
        return StreamedBlock(index, start, stop, x, base, self._seed, self.name)

    def _read(self, spans: Sequence[tuple[int, int]], check: bool = True) -> tuple[Tensor, Tensor | None]:
        """The elements of `spans`, one after the other: the inputs (n, m), and the base in delta space."""
        width = sum(stop - start for start, stop in spans)
        x = self._scratch.numbers("x", (self.n, width), self.dtype)
        base = self._scratch.numbers("base", (width,), self.dtype) if self._delta else None
        at = 0
        for start, stop in spans:
            end = at + stop - start
            rows = [*x[:, at:end].unbind(), *([] if base is None else [base[at:end]])]
            self._inputs.load(start, stop, rows, check)
            at = end
        if base is not None and not self._apart:
            x -= base
        return x, base

    def _put(self, block: StreamedBlock, result: Tensor) -> None:
        self._sink.put(0, block.start, self._completed(block, result))

    def _completed(self, block: StreamedBlock, result: Tensor) -> Tensor:
        """What was made of a block, with the base added back (m,)."""
        if result.shape != block.x.shape[1:] or result.dtype not in (torch.float32, torch.float64):
            wanted = f"for a block of {list(block.x.shape[1:])} numbers of float32 or float64"
            raise wrong(f"it returned {told(result)} {wanted}")
        if block.original is not None and not self._apart:
            return block.original.view(-1).add_(result.reshape(-1))
        return result.reshape(-1)
