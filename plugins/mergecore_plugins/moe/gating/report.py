"""What can be said of routers once they are written; read `conditions`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from mergecore.types import Json, Plan
from mergecore_plugins.moe.gating.methods import NAME, GateParams

if TYPE_CHECKING:
    from torch import Tensor

ALIKE = 5.0
"""The condition number from which the rows of a router are too much alike."""


def conditions(plan: Plan, read: Callable[[str], Tensor]) -> dict[str, Json]:
    """Of each layer the condition number of its router as it was written; empty where no router is made of prompts.

    None stands for a router with rows that depend on each other.
    """
    from mergecore_plugins.moe.gating.fitting import condition

    numbers: list[Json] = []
    for step in plan.steps:
        if step.method != NAME or not isinstance(step.params, GateParams):
            continue
        for output, rows in zip(step.outputs, step.params.outputs, strict=True):
            if rows.first == 0:
                compares = step.params.mode == "router_input" or step.params.center
                found = condition(read(output.name), differences=compares)
                numbers.append(None if found is None else round(found, 3))
    if not numbers:
        return {}
    alike: list[Json] = [
        layer for layer, one in enumerate(numbers) if not isinstance(one, float) or one > ALIKE
    ]
    return {"router_condition_numbers": numbers, "layers_with_like_experts": alike}
