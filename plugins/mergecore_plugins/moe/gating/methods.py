"""The method that makes the routers of all layers in one step, from a pass over the prompts; read `gate_method`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mergecore import MergeMethod, Params
from mergecore.types import Merged, Step
from mergecore_plugins.activations import RunLayout
from mergecore_plugins.moe.gating.settings import GateMode

if TYPE_CHECKING:
    from mergecore import TensorGroup

NAME = "moe_gates"
"""What the method is called in plans."""

NUMBERS = 12
"""Numbers of the width of the model that are kept of a token, at most, while it passes through a layer."""


class Rows(Params):
    """Which rows of the gate of a layer an output tensor has."""

    layer: int
    first: int
    stop: int


class GateParams(Params):
    """Everything about the routers that is known before a weight is read."""

    mode: GateMode
    routed: int
    """The experts of which the router chooses."""
    shared: int = 0
    """Those behind them that see every token, and have a gate of their own."""
    share: float | None = None
    center: bool = False
    outputs: tuple[Rows, ...]
    layout: RunLayout
    tokens: int
    """Tokens of all prompts."""


def gate_method() -> MergeMethod[GateParams]:
    """The method of the steps that `gate_step` makes."""
    return MergeMethod(
        name=NAME,
        merge=_gates,
        params=GateParams,
        models=(0, 0),
        formula="rows of the routers from prompts",
        reproducible="same-machine",
        extra_memory=_extra_memory,
    )


def _gates(group: TensorGroup, params: GateParams) -> Merged:
    from mergecore_plugins.moe.gating.gates import made

    return made(group, params)


def _extra_memory(step: Step) -> tuple[int, int]:
    """The weights of a layer, and what is kept of the tokens of all prompts."""
    params = step.params
    assert isinstance(params, GateParams)
    layout = params.layout
    made = 4 * (params.routed + params.shared) * len(layout.layers) * layout.width
    solved = 8 * 3 * min(layout.width, max(1, params.tokens)) ** 2 if params.mode == "router_input" else 0
    weights = 0 if params.mode == "cheap_embed" and params.share is None else layout.memory
    return weights + made, solved + 4 * NUMBERS * params.tokens * layout.width + PASS


PASS = 256 << 20
"""Bytes that a batch of tokens takes within a layer, and what the library takes to run a model."""
