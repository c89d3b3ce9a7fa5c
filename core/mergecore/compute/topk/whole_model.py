"""Looking at whole models before the first tensor is merged: their groups, and cuts through all of their tensors.

Read `find_cuts`, which a method calls in its `prepare`; `ModelCut.within` gives it the cut of a tensor later.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, overload

import torch

from mergecore.compute.topk.one_tensor import ExactCut, Search, look_for
from mergecore.types import Block, Cut, TensorGroup


class Groups(Sequence[TensorGroup]):
    """The groups of many tensors, each made when it is taken; none is kept."""

    def __init__(self, count: int, make: Callable[[int], TensorGroup]) -> None:
        self._places = range(count)
        self._make = make

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, index: int) -> TensorGroup: ...

    @overload
    def __getitem__(self, index: slice) -> list[TensorGroup]: ...

    def __getitem__(self, index: int | slice) -> TensorGroup | list[TensorGroup]:
        """The group, or a list of groups."""
        if isinstance(index, slice):
            return [self._make(place) for place in self._places[index]]
        return self._make(self._places[index])


class GroupInput(NamedTuple):
    """Where a model takes part: input `slot` of a group, its elements, and its blocks."""

    group: int
    slot: int
    elements: int
    blocks: int


def inputs_by_model(groups: Sequence[TensorGroup]) -> dict[int, list[GroupInput]]:
    """By model, in order of appearance, all the inputs that are of it."""
    parts: dict[int, list[GroupInput]] = {}
    for index, group in enumerate(groups):
        for slot, model in enumerate(group.models):
            parts.setdefault(model, []).append(GroupInput(index, slot, group.count, group.blocks))
    return parts


class ModelCut(NamedTuple):
    """A cut that keeps exactly k magnitudes of a model: all above `value`, and those equal to it that come first.

    First by group, then slot, then position: of the equal ones, all are kept before block `block` of input
    `slot` of group `group`, the first `quota` in that block, none after it.
    """

    value: float
    group: int
    slot: int
    block: int
    quota: int

    def within(self, group: TensorGroup, slot: int) -> Cut:
        """The cut through one input of one group."""
        place = (group.index, slot)
        here = (self.group, self.slot)
        boundary = self.block if place == here else group.blocks if place < here else -1
        exact = torch.tensor(self.value, dtype=torch.float64)
        near = exact.to(group.dtype)
        if near == exact:
            return ExactCut(self.value, boundary, self.quota)
        # between two numbers of the group, so there are no equal ones: what is not above the lower one goes
        lower = near if near < exact else torch.nextafter(near, torch.zeros_like(near))
        return ExactCut(float(lower), boundary=-1)


def find_cuts(
    groups: Sequence[TensorGroup], counts: Mapping[int, Sequence[int]]
) -> dict[int, list[ModelCut]]:
    """For each model the cuts that keep its `counts[model]` largest magnitudes over all groups, exactly.

    A few passes over everything, shared by all cuts; memory does not grow with the number of elements.
    """
    parts = inputs_by_model(groups)
    wide = any(group.dtype == torch.float64 for group in groups)
    searches = {
        model: [
            _search(k, row, torch.float64 if wide else torch.float32, len(counts[model]))
            for k in counts[model]
        ]
        for model, row in parts.items()
    }
    while pending := {
        model: rest for model, row in searches.items() if (rest := [s for s in row if not s.found])
    }:
        _look(groups, parts, pending, wide)
        for row in pending.values():
            for search in row:
                search.narrow()
    return {model: [_placed(search.cut, parts[model]) for search in row] for model, row in searches.items()}


def _search(k: int, parts: Sequence[GroupInput], dtype: torch.dtype, sharing: int) -> Search:
    elements, blocks = sum(part.elements for part in parts), sum(part.blocks for part in parts)
    return Search(k, elements, blocks, dtype, sharing=sharing)


def _look(
    groups: Sequence[TensorGroup],
    parts: Mapping[int, Sequence[GroupInput]],
    pending: Mapping[int, Sequence[Search]],
    wide: bool,
) -> None:
    """Let the searches of each model look at all of its blocks, which are counted through."""
    seen = dict.fromkeys(parts, 0)
    for group in groups:
        first = []
        for model in group.models:
            first.append(seen[model])
            seen[model] += group.blocks

        def look(block: Block, models: Sequence[int] = group.models, first: Sequence[int] = first) -> None:
            for slot, model in enumerate(models):
                x = block.x[slot].double() if wide else block.x[slot]
                look_for(pending.get(model, ()), first[slot] + block.index, x)

        group.visit(look)


def _placed(cut: ExactCut, parts: Sequence[GroupInput]) -> ModelCut:
    """The cut with its block counted from the start of its input."""
    value = min(cut.value, sys.float_info.max)  # a cut that keeps nothing stands in JSON, too
    block = cut.boundary
    for part in parts:
        if block < part.blocks:
            return ModelCut(value, part.group, part.slot, block, cut.quota)
        block -= part.blocks
    last = parts[-1]
    return ModelCut(value, last.group, last.slot, last.blocks, 0)
