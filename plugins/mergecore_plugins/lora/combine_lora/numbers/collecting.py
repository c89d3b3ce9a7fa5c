"""Runs a merge method on changes, and keeps what it makes in place of writing it; read `merged`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast, overload

import torch
from torch import Tensor

from mergecore import Block, PluginError, TensorGroup
from mergecore.types import Blocks, MapBlock, OutputTensor

if TYPE_CHECKING:
    from mergecore_plugins.lora.combine_lora.methods import CombinedParams


def merged(group: TensorGroup, params: CombinedParams) -> Tensor:
    """What the merge method makes of the changes in `group`, the base added back where there is one."""
    collecting = Collecting.of(group, params)
    made = params.method.merge(cast("TensorGroup", collecting), params.params)
    if isinstance(made, Blocks):
        return collecting.kept().view(group.shape)
    whole = made[0] if isinstance(made, tuple) and len(made) == 1 else made
    return collecting.with_base(collecting.checked(whole, group.count)).view(group.shape)


class Groups(Sequence[TensorGroup]):
    """The groups of a method that prepares, as its own."""

    def __init__(self, groups: Sequence[TensorGroup], params: Sequence[CombinedParams]) -> None:
        self._groups, self._params = groups, params

    def __len__(self) -> int:
        """How many there are."""
        return len(self._groups)

    @overload
    def __getitem__(self, index: int) -> TensorGroup: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[TensorGroup]: ...

    def __getitem__(self, index: int | slice) -> TensorGroup | Sequence[TensorGroup]:
        """The group of that number, made anew."""
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        return cast("TensorGroup", Collecting.of(self._groups[index], self._params[index]))


class Collecting:
    """A group whose result is kept; all else is that of the group itself."""

    def __init__(self, group: TensorGroup, name: str, method: str = "", *, differences: bool = True) -> None:
        """differences: whether the base is added to what is made."""
        self._group = group
        self._method = method
        self._differences = differences
        self.name = name
        self.outputs = (OutputTensor(name, "F32", group.shape),)
        self._made: Tensor | None = None
        self._counts: list[int] = []

    @classmethod
    def of(cls, group: TensorGroup, params: CombinedParams) -> Collecting:
        """The group of a merge method."""
        return cls(group, params.name, params.method.name, differences=params.method.space != "apart")

    def __getattr__(self, name: str) -> Any:
        """What is not said here, as the group has it."""
        return getattr(self._group, name)

    def kept(self) -> Tensor:
        """What the method has made, which must be every element, once.

        Raises:
            PluginError: E605 where it is not.
        """
        if self._made is None or sum(self._counts) != self._group.count:
            raise self._wrong(f"{sum(self._counts)} numbers", self._group.count)
        return self._made

    def checked(self, made: object, count: int) -> Tensor:
        """What the method returned: so many numbers, flat.

        Raises:
            PluginError: E605 for anything else.
        """
        if not isinstance(made, Tensor):
            raise self._wrong(type(made).__name__, count)
        if made.numel() != count or made.dtype not in (torch.float32, torch.float64):
            raise self._wrong(f"{made.numel()} numbers of {str(made.dtype).removeprefix('torch.')}", count)
        return made.reshape(-1)

    def _wrong(self, made: str, count: int) -> PluginError:
        what = (
            f"'{self._method}' makes {made} of '{self.name}' where {count} of float32 or float64 are expected"
        )
        return PluginError("E605", what, tensor=self.name)

    def map(self, merge_block: MapBlock, rows: bool = False) -> Blocks:
        """Keep what `merge_block` makes of each block."""
        self._begin()

        def put(block: Block) -> None:
            numbers = self.checked(merge_block(block), block.stop - block.start)
            self._keep(block.start, self._based(block, numbers))

        self._group.visit(put, rows=rows)
        return Blocks(self._group.blocks)

    def scatter(
        self, make_stretches: Callable[[Block], Iterable[tuple[int, int, Tensor]]], rows: bool = False
    ) -> Blocks:
        """Keep stretches of the one tensor."""
        self._begin()

        def put(block: Block) -> None:
            for _, start, numbers in make_stretches(block):
                self._keep(start, self.checked(numbers, numbers.numel()))

        self._group.visit(put, rows=rows)
        return Blocks(self._group.blocks)

    def map_columns(self, merge_block: MapBlock) -> Blocks:
        """`map` with all columns at once."""
        group = self._group
        x = torch.empty((group.n, group.count), dtype=group.dtype)

        def see(block: Block) -> None:
            x[:, block.start : block.stop] = block.x

        group.visit(see)
        height = group.shape[0]
        columns = _Columns(x.view(group.n, height, group.count // height), group.count)
        self._begin()
        self._keep(0, self.with_base(self.checked(merge_block(cast("Block", columns)), group.count)))
        return Blocks(1)

    def with_base(self, flat: Tensor) -> Tensor:
        """What was made of differences, with the base added back."""
        whole = flat.clone()

        def add(block: Block) -> None:
            if self._differences and block.base is not None:
                whole[block.start : block.stop] += block.base.reshape(-1)

        self._group.visit(add)
        return whole

    def _begin(self) -> None:
        self._made = torch.full((self._group.count,), torch.nan, dtype=self._group.dtype)
        self._counts = []

    def _keep(self, start: int, numbers: Tensor) -> None:
        """Keep numbers; a second time for some leaves others, which were never made, not finite."""
        assert self._made is not None
        self._made[start : start + len(numbers)] = numbers
        self._counts.append(len(numbers))

    def _based(self, block: Block, made: Tensor) -> Tensor:
        bare = block.base is None or not self._differences
        return made if bare else made + cast("Tensor", block.base).reshape(-1)


@dataclass
class _Columns:
    """All columns of a tensor as one block."""

    x: Tensor
    stop: int
    index: int = 0
    start: int = 0
    base: Tensor | None = None
