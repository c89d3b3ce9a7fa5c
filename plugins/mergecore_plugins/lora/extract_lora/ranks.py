"""Ranks by the singular values of the changes, which have to be known before an adapter is planned; read `decided`."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mergecore.types import Json, Plan
from mergecore_plugins.lora.extract_lora.methods import FactorParams
from mergecore_plugins.lora.extract_lora.selecting import fits
from mergecore_plugins.lora.extract_lora.steps import FACTS

if TYPE_CHECKING:
    from torch import Tensor

SMALLEST = 1e-12
"""A share of the largest singular value below which one is nothing but rounding."""


@dataclass(frozen=True)
class Bounds:
    """How much of a change is kept: what is said must hold together."""

    energy: float | None = None
    """The share of its squared length."""
    smallest: float | None = None
    """The smallest singular value."""
    relative: float | None = None
    """The smallest share of the largest singular value."""

    @property
    def said(self) -> bool:
        """Whether any is."""
        return any(one is not None for one in (self.energy, self.smallest, self.relative))

    def rank(self, facts: Tensor) -> int:
        """The rank of a weight; 0 where it has not changed."""
        size = float(facts[0, 0, 0, 0])
        squares, values = facts[0, 0, 1], facts[0, 0, 2]
        if size == 0:
            return 0
        count = int((values > SMALLEST * values[0]).sum())
        if self.smallest is not None:
            count = min(count, int((values >= self.smallest).sum()))
        if self.relative is not None:
            count = min(count, int((values >= self.relative * values[0]).sum()))
        if self.energy is not None:
            enough = (squares.cumsum(0) >= self.energy * size).nonzero()
            count = min(count, int(enough[0, 0]) + 1 if len(enough) else count)
        return count


@dataclass(frozen=True)
class Decided:
    """What a look at the changes says an adapter should have."""

    ranks: Mapping[str, int]
    unchanged: tuple[str, ...]
    """Tensors that are not factored and are those of the base."""
    bounded: tuple[str, ...]
    """Weights of which more would have to be kept than the largest rank allows."""

    def document(self, given: Mapping[str, Json]) -> dict[str, Json]:
        """The document of the extraction, `given` as it was asked for."""
        patterns, excluded = given.get("rank_pattern") or {}, given.get("exclude") or []
        assert isinstance(patterns, dict)
        assert isinstance(excluded, list)
        return {
            **given,
            "rank_pattern": {**self.ranks, **patterns},
            "exclude": [*excluded, *self.unchanged],
        }


def decided(
    plan: Plan, facts: Mapping[str, Tensor], bounds: Bounds, patterns: Collection[str] = ()
) -> Decided:
    """The ranks of all weights, from the plan and the facts of an extraction of nothing else.

    patterns: what modules of other ranks are called, which are not reported as bounded.
    """
    ranks, unchanged, bounded = {}, [], []
    for step in plan.steps:
        name = step.outputs[-1].name
        found, params = facts[name], step.params
        if isinstance(params, FactorParams):
            short = name.removeprefix(FACTS)
            key = short if params.kind == "experts" else short.rpartition(".")[0]
            ranks[key] = bounds.rank(found)
            given = any(fits(text, key, step.role) or fits(text, short) for text in patterns)
            if not given and _lacks(bounds, found, params):
                bounded.append(key)
        elif float(found[0, 0, 0, 0]) == 0 and not _is_lost(params):
            unchanged.append(name.removeprefix(FACTS))
    return Decided(ranks, tuple(unchanged), tuple(bounded))


def _lacks(bounds: Bounds, facts: Tensor, params: FactorParams) -> bool:
    """Whether more than the singular values that were looked at would be kept."""
    size, squares, values = float(facts[0, 0, 0, 0]), facts[0, 0, 1], facts[0, 0, 2]
    if bounds.energy is not None:
        return float(squares.sum()) < bounds.energy * size
    least = max(bounds.smallest or 0.0, (bounds.relative or 0.0) * float(values[0]))
    last = float(values[params.rank - 1])
    return size > 0 and last >= least and float(facts[0, 0, 0, 1]) > SMALLEST * size


def _is_lost(params: Any) -> bool:
    return bool(getattr(params, "lost", False))
