"""Whole tensors of an adapter that the base stores under other names, or in other parts; read `placed`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from mergecore.types import Joined, Segment, TensorInfo
from mergecore_plugins.lora.names import AdapterTensor

Pieces: TypeAlias = Mapping[str, Sequence[tuple[int, str, int, int]]]
"""By the name of a tensor of the base: from which element, of which tensor of the model, from where, how many."""
Layout: TypeAlias = Callable[[Mapping[str, tuple[int, ...]]], Pieces]
"""How tensors of the model, given with their shapes, lie in the files of the base."""


def placed(
    parts: Sequence[AdapterTensor], layout: Layout, base: Mapping[str, TensorInfo]
) -> tuple[dict[str, TensorInfo], set[str]]:
    """What takes the place of tensors of the base, by their names, and the names of the trained tensors that are used.

    Only tensors of the base that are covered by trained ones in full are replaced.
    """
    trained = {part.module: part.tensor for part in parts}
    found: dict[str, TensorInfo] = {}
    used: set[str] = set()
    if not trained:
        return found, used
    pieces = layout({name: tensor.shape for name, tensor in trained.items()})
    for stored, runs in pieces.items():
        there = base.get(stored)
        if there is None or not all(name in trained for _, name, _, _ in runs):
            continue
        if sum(count for *_, count in runs) == there.count:
            found[stored] = _joined(there, runs, trained)
            used.update(name for _, name, _, _ in runs)
    return found, used


def _joined(
    there: TensorInfo, runs: Sequence[tuple[int, str, int, int]], trained: Mapping[str, TensorInfo]
) -> TensorInfo:
    segments = tuple(Segment(at, trained[name].data, start, count) for at, name, start, count in runs)
    return TensorInfo(there.name, Joined(trained[runs[0][1]].dtype, there.shape, segments))
