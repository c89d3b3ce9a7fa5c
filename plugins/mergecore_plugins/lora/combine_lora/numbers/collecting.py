"""Runs a merge method on changes, and keeps what it makes in place of writing it; read `merged`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast, overload

import torch
from torch import Tensor

from mergecore import Block, TensorGroup
from mergecore.types import Blocks, MapBlock, OutputTensor

if TYPE_CHECKING:
    from mergecore_plugins.lora.combine_lora.methods import CombinedParams


def merged(group: TensorGroup, params: CombinedParams) -> Tensor:
    """What the merge method makes of the changes in `group`, the base added back where there is one."""
    collecting = Collecting(group, params.name)
    made = params.method.merge(cast("TensorGroup", collecting), params.params)
    if isinstance(made, Blocks):
        assert collecting.made is not None
        return collecting.made.view(group.shape)
    [whole] = made if isinstance(made, tuple) else (made,)
    return collecting.with_base(whole.reshape(group.shape))


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
        return cast("TensorGroup", Collecting(self._groups[index], self._params[index].name))


class Collecting:
    """A group whose result is kept; all else is that of the group itself."""

    def __init__(self, group: TensorGroup, name: str) -> None:
        self._group = group
        self.name = name
        self.outputs = (OutputTensor(name, "F32", group.shape),)
        self.made: Tensor | None = None

    def __getattr__(self, name: str) -> Any:
        """What is not said here, as the group has it."""
        return getattr(self._group, name)

    def map(self, merge_block: MapBlock, rows: bool = False) -> Blocks:
        """Keep what `merge_block` makes of each block."""
        made = self._begun()

        def put(block: Block) -> None:
            made[block.start : block.stop] = _based(block, merge_block(block)).reshape(-1)

        self._group.visit(put, rows=rows)
        return Blocks(self._group.blocks)

    def scatter(
        self, make_stretches: Callable[[Block], Iterable[tuple[int, int, Tensor]]], rows: bool = False
    ) -> Blocks:
        """Keep stretches of the one tensor."""
        made = self._begun()

        def put(block: Block) -> None:
            for _, start, numbers in make_stretches(block):
                made[start : start + numbers.numel()] = numbers.reshape(-1)

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
        self.made = self.with_base(merge_block(cast("Block", columns)).reshape(group.shape)).reshape(-1)
        return Blocks(1)

    def with_base(self, whole: Tensor) -> Tensor:
        """What was made of differences, with the base added back."""
        flat = whole.reshape(-1).clone()

        def add(block: Block) -> None:
            if block.base is not None:
                flat[block.start : block.stop] += block.base.reshape(-1)

        self._group.visit(add)
        return flat.view(whole.shape)

    def _begun(self) -> Tensor:
        self.made = torch.empty(self._group.count, dtype=self._group.dtype)
        return self.made


def _based(block: Block, made: Tensor) -> Tensor:
    return made if block.base is None else made + block.base.view(made.shape)


@dataclass
class _Columns:
    """All columns of a tensor as one block."""

    x: Tensor
    stop: int
    index: int = 0
    start: int = 0
    base: Tensor | None = None
