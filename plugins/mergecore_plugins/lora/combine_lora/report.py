"""What a merge of adapters has made: size and error by kind of module; read `report`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from mergecore.types import Finished, Plan, Step
from mergecore_plugins.lora.combine_lora.methods import CombinedParams
from mergecore_plugins.lora.combine_lora.steps import FACTS
from mergecore_plugins.lora.making.table import Line, Report, finished, kind_of

if TYPE_CHECKING:
    from torch import Tensor


def finish(plan: Plan, read: Callable[[str], Tensor]) -> Finished:
    """The table in the card of an adapter and in its manifest."""
    names = (one.name for one in plan.outputs if one.name.startswith(FACTS))
    return finished(plan, report(plan, {name: read(name) for name in names}))


def report(plan: Plan, facts: Mapping[str, Tensor]) -> Report:
    """What a merge has made, from its plan and the facts that lie beside the adapter."""
    groups: dict[str, list[Step]] = {}
    whole: dict[str, list[Step]] = {}
    for step in plan.steps:
        if isinstance(step.params, CombinedParams):
            groups.setdefault(kind_of(step.params.name), []).append(step)
        else:
            whole.setdefault(kind_of(step.name), []).append(step)
    lines = [_line(kind, steps, facts) for kind, steps in groups.items()]
    lines += [Line(kind, "whole", len(steps), None, _size(steps), 0.0, 0.0) for kind, steps in whole.items()]
    return Report(tuple(lines), sum(line.size for line in lines))


def _line(kind: str, steps: Sequence[Step], facts: Mapping[str, Tensor]) -> Line:
    lengths = [facts[step.outputs[-1].name][0, 0, 0] for step in steps]
    ranks = [step.params.rank for step in steps if isinstance(step.params, CombinedParams)]
    return Line(
        kind,
        "factored",
        len(steps),
        (min(ranks), max(ranks)),
        _size(steps),
        math.sqrt(sum(float(one[0]) for one in lengths)),
        math.sqrt(sum(float(one[1]) for one in lengths)),
    )


def _size(steps: Sequence[Step]) -> int:
    return sum(one.nbytes for step in steps for one in step.outputs if not one.name.startswith(FACTS))
