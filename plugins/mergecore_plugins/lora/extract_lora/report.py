"""What an extraction has made: size and error by kind of module; read `report`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from mergecore.files import nbytes
from mergecore.types import Finished, Plan, Step
from mergecore_plugins.lora.extract_lora.methods import FactorParams
from mergecore_plugins.lora.extract_lora.steps import FACTS
from mergecore_plugins.lora.making.table import Line, Report, finished, kind_of

if TYPE_CHECKING:
    from torch import Tensor


def finish(plan: Plan, read: Callable[[str], Tensor]) -> Finished:
    """The table in the card of an adapter and in its manifest."""
    names = (one.name for one in plan.outputs if one.name.startswith(FACTS))
    found = report(plan, {name: read(name) for name in names})
    return finished(plan, found)


def report(plan: Plan, facts: Mapping[str, Tensor]) -> Report:
    """What an extraction has made, from its plan and the facts that lie beside the adapter."""
    copies = {one.name: one for one in plan.outputs if not one.name.startswith(FACTS)}
    groups: dict[tuple[str, str], list[Step]] = {}
    for step in plan.steps:
        name = step.outputs[-1].name
        if name.startswith(FACTS):
            groups.setdefault((kind_of(name.removeprefix(FACTS)), _stored(step)), []).append(step)
    lines = [_line(kind, how, steps, facts) for (kind, how), steps in groups.items()]
    now = plan.models[0].tensors.values()
    return Report(
        tuple(lines),
        sum(one.nbytes for one in copies.values()),
        sum(nbytes(one.dtype, one.shape) for one in now),
    )


def _line(kind: str, how: str, steps: Iterable[Step], facts: Mapping[str, Tensor]) -> Line:
    steps = list(steps)
    lengths = [facts[step.outputs[-1].name][0, 0, 0] for step in steps]
    ranks = [step.params.rank for step in steps if isinstance(step.params, FactorParams)]
    size = sum(one.nbytes for step in steps for one in step.outputs[:-1])
    if how == "whole":
        size = sum(nbytes(one.tensor.dtype, one.shape) for step in steps for one in step.inputs)
    return Line(
        kind,
        how,
        len(steps),
        (min(ranks), max(ranks)) if ranks else None,
        size,
        math.sqrt(sum(float(one[0]) for one in lengths)),
        math.sqrt(sum(float(one[1]) for one in lengths)),
    )


def _stored(step: Step) -> str:
    if isinstance(step.params, FactorParams):
        return "factored"
    return "left out" if getattr(step.params, "lost", False) else "whole"
