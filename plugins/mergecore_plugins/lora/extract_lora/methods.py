"""What makes the tensors of an adapter; the arithmetic is in `decomposing.py`, imported when it is needed.

Read `METHODS`.  Every step also makes facts: float64 (1, 1, 3, k), whose first row is the squared length of the
change and that of what the adapter lacks of it; the second has the squares of singular values, the third their
sizes, of experts the largest.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from mergecore import Field, MergeMethod, Params
from mergecore.types import Merged, Step
from mergecore_plugins.lora.making.kinds import FactorKind, bytes_of

if TYPE_CHECKING:
    from mergecore import TensorGroup


class FactorParams(Params):
    """How a weight is factored."""

    kind: FactorKind = "linear"
    rank: int = Field(default=8, ge=1)
    randomised: bool = False
    experts: int = 1
    turned: bool = False
    """Whether the weight is stored as (in, out)."""
    rounded: str = ""
    """The format of the fine-tune, where the base is to be compared as that would hold it."""


class MeasureParams(Params):
    """What is measured of a tensor that is not factored."""

    lost: bool = Field(default=False, description="whether the adapter has nothing of it")
    rounded: str = ""
    """The format of the fine-tune, where the base is to be compared as that would hold it."""


def methods() -> tuple[MergeMethod[Any], ...]:
    """The methods of the recipe."""
    return (
        MergeMethod(
            name="low_rank",
            merge=_factored,
            params=FactorParams,
            space="delta",
            base="required",
            models=(1, 1),
            formula="the singular vectors of the change, each times the root of its singular value",
            reproducible="same-machine",
            extra_memory=_extra_memory,
        ),
        MergeMethod(
            name="difference",
            merge=_difference,
            params=MeasureParams,
            models=(2, 2),
            formula="the change itself",
        ),
        MergeMethod(
            name="measure",
            merge=_measured,
            params=MeasureParams,
            space="delta",
            base="required",
            models=(1, 1),
            formula="how large the change is",
        ),
    )


def _factored(group: TensorGroup, params: FactorParams) -> Merged:
    from mergecore_plugins.lora.extract_lora.numbers.factoring import factored

    return factored(group, params)


def _difference(group: TensorGroup, params: MeasureParams) -> Merged:
    return group.map(lambda block: block.x[0] - block.x[1])


def _measured(group: TensorGroup, params: MeasureParams) -> Merged:
    from mergecore_plugins.lora.extract_lora.numbers.factoring import measured

    return measured(group, params)


def _extra_memory(step: Step) -> tuple[int, int]:
    """Bytes that a worker keeps: the change, and what is computed of it."""
    assert isinstance(step.params, FactorParams)
    within = 4 * math.prod(step.shape) if step.params.kind == "experts" else 0
    made = 8 * 2 * sum(math.prod(one.shape) for one in step.outputs)
    rows, columns = step.shape
    size = bytes_of((rows, columns), step.params.rank, randomised=step.params.randomised)
    return 0, size + within + made
