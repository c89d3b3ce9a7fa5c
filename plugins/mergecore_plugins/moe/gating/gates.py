"""Makes the routers of all layers; read `gates`.

The model is run once over all prompts, layer by layer.  What is wanted of a layer is made when all prompts have passed
it, and then forgotten.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mergecore_plugins.activations import Point, RunLayout, observe
from mergecore_plugins.moe.gating.fitting import Seen, condition, fitted, right, scale, together, top_share
from mergecore_plugins.moe.gating.prompts import Cut, common_beginnings, from_rows
from mergecore_plugins.moe.gating.vectors import centered, of_embeddings, of_states

if TYPE_CHECKING:
    from mergecore import TensorGroup
    from mergecore.types import Matrix, Merged
    from mergecore_plugins.moe.gating.methods import GateParams


@dataclass(frozen=True)
class Layer:
    """The gate of one layer, and how it does on the prompts."""

    rows: Tensor
    """(experts, width) float32; those of shared experts come last."""
    condition: float | None
    """The largest singular value of the routed rows over the smallest; None where that is 0."""
    share: float | None = None
    """The mean share of the first choice; None where nobody has looked at what the router sees."""
    right: float | None = None
    """The share of tokens whose first choice is the expert they are for."""


def made(group: TensorGroup, params: GateParams) -> Merged:
    """The output tensors of a step: rows of gates."""
    cuts, *weights = group.matrices
    prompts = from_rows(cuts.read(0, cuts.shape[0], torch.int64).tolist())
    named = dict(zip(params.layout.names, weights, strict=True))
    layers = gates(params, named, prompts, group.device)
    return tuple(layers[one.layer].rows[one.first : one.stop] for one in params.outputs)


def gates(
    params: GateParams,
    weights: Mapping[str, Matrix],
    prompts: Sequence[Cut],
    device: torch.device | str = "cpu",
) -> list[Layer]:
    """The gates of all layers.

    weights: what `params.layout.names` names, of the base.
    """
    looks_up = params.mode == "cheap_embed"
    rows = None
    if looks_up:
        rows = _of_embeddings(params, weights[params.layout.embeddings], prompts)
        if params.share is None:
            return [Layer(rows, condition(rows[: params.routed]))] * len(params.layout.layers)
    maker = _Maker(params, prompts, rows)
    observe(params.layout, weights, [one.ids for one in prompts], maker.points, maker, device=device)
    return maker.layers


def _of_embeddings(params: GateParams, table: Matrix, prompts: Sequence[Cut]) -> Tensor:
    """The rows of `cheap_embed`, the same for all layers."""
    found: dict[int, Tensor] = {}
    for one in sorted({token for prompt in prompts for token in prompt.ids}):
        found[one] = table.read(one, one + 1)[0]
    table.raise_faults()
    embedded = [torch.stack([found[token] for token in prompt.ids]) for prompt in prompts]
    rows = of_embeddings(embedded, prompts, params.routed + params.shared)
    return centered(rows) if params.center else rows


@dataclass
class _Maker:
    """Keeps what prompts show at one layer, until all have passed it."""

    params: GateParams
    prompts: Sequence[Cut]
    given: Tensor | None
    """Rows that are known before the model is run."""
    layers: list[Layer] = field(default_factory=list)
    _states: dict[int, Tensor] = field(default_factory=dict)
    _seen: dict[int, Tensor] = field(default_factory=dict)

    @cached_property
    def _common(self) -> list[int]:
        """Of each prompt, how many of its first tokens say nothing of the expert."""
        return common_beginnings(self.prompts)

    @property
    def points(self) -> list[Point]:
        """Where to look: at what enters layers, and at what routers see."""
        layout: RunLayout = self.params.layout
        entering = [Point(layer) for layer in layout.layers] if self._of_states else []
        fits = self.params.mode == "router_input" or self.params.share is not None
        routers = [Point(name) for name in layout.mlps if name] if fits else []
        return [*entering, *routers]

    @property
    def _of_states(self) -> bool:
        return self.given is None and self.params.mode != "router_input"

    def see(self, point: Point, text: int, values: Tensor) -> None:
        """Keep a vector of each prompt for what enters a layer, every token for what a router sees."""
        if point.module in self.params.layout.layers:
            average = self.params.mode == "hidden_avg"
            self._states[text] = values.mean(dim=0).cpu() if average else values[-1].to("cpu", copy=True)
        elif text not in self._seen:
            self._seen[text] = values.to("cpu", torch.float32, copy=True)

    def done(self, layer: str) -> None:
        """Make the gate of a layer."""
        experts, routed = self.params.routed + self.params.shared, self.params.routed
        order = range(len(self.prompts))
        seen = self._together() if self._seen else None
        if self.given is not None:
            rows = self.given
        elif self._of_states:
            rows = of_states(torch.stack([self._states[i] for i in order]), self.prompts, experts)
            rows = centered(rows) if self.params.center else rows
        else:
            assert seen is not None
            rows = fitted(seen, experts)
        self._states, self._seen = {}, {}
        self.layers.append(self._layer(rows, routed, seen))

    def _together(self) -> Seen:
        order = [i for i in range(len(self.prompts)) if i in self._seen]
        return together(
            [self._seen[i] for i in order],
            [self.prompts[i].expert for i in order],
            [self.prompts[i].negative for i in order],
            [self._common[i] for i in order],
        )

    def _layer(self, rows: Tensor, routed: int, seen: Seen | None) -> Layer:
        """The gate, scaled as asked for."""
        if seen is None:
            return Layer(rows.to(torch.float32), condition(rows[:routed]))
        own = seen.telling(routed)
        wide = rows.to(torch.float64)
        logits = own.tokens.to(torch.float64) @ wide[:routed].T
        factor = scale(logits, self.params.share) if self.params.share is not None else 1.0
        return Layer(
            (wide * factor).to(torch.float32),
            condition(rows[:routed], differences=self.params.mode == "router_input"),
            top_share(logits * factor),
            right(wide[:routed], own),
        )
