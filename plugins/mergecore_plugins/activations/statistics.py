"""Running statistics of what enters modules; read `input_statistics`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Protocol, TypeVar

import torch
from torch import Tensor

from mergecore_plugins.activations.layout import RunLayout
from mergecore_plugins.activations.passes import Point, observe

if TYPE_CHECKING:
    from mergecore.types import Matrix


class Statistic(Protocol):
    """What is kept of the inputs of one module."""

    def add(self, values: Tensor) -> None:
        """Take the inputs for the tokens of a text, (tokens, width)."""


S = TypeVar("S", bound=Statistic)


@dataclass
class Moments:
    """Number, sum and sum of products of inputs, in float64."""

    cross: bool = False
    """Whether products of all pairs of columns are kept, (width, width); else only squares, (width,)."""
    count: int = 0
    total: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.float64))
    products: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.float64))

    def add(self, values: Tensor) -> None:
        """Take the inputs for the tokens of a text, (tokens, width)."""
        wide = values.to("cpu", torch.float64)
        made = wide.T @ wide if self.cross else wide.square().sum(dim=0)
        self.count += len(wide)
        self.total = wide.sum(dim=0) + (self.total if self.total.numel() else 0)
        self.products = made + (self.products if self.products.numel() else 0)

    @property
    def mean(self) -> Tensor:
        """The mean input, (width,)."""
        return self.total / max(1, self.count)


def input_statistics(
    layout: RunLayout,
    weights: Mapping[str, Matrix],
    texts: Sequence[Sequence[int]],
    matching: str,
    make: Callable[[str], S],
    *,
    device: torch.device | str = "cpu",
) -> dict[str, S]:
    """A statistic of the inputs of each module whose name matches, by that name.

    weights: what `layout.names` names.  texts: ids of tokens.  matching: names of modules as a shell writes them,
    such as `model.layers.*.mlp.down_proj`.  make: a new statistic for a module.
    """
    owners = {name.rpartition(".")[0]: None for name in layout.names}
    names = [
        name for name in owners if fnmatchcase(name, matching) and layout.layer_of(f"{name}.") is not None
    ]
    kept = {name: make(name) for name in names}
    observe(layout, weights, texts, [Point(name) for name in names], _Adding(kept), device=device)
    return kept


@dataclass(frozen=True)
class _Adding:
    """Adds the inputs of texts up, in the order in which texts pass, which their lengths decide."""

    kept: Mapping[str, Statistic]

    def see(self, point: Point, text: int, values: Tensor) -> None:
        self.kept[point.module].add(values)

    def done(self, layer: str) -> None:
        pass
