"""Average: checkpoints of one training run, weighted by a schedule (EMA, WSM)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any

from mergecore import ConfigError, Field, MergeMethod, Params, PerModel, hookimpl
from mergecore_plugins.methods.common import DECAY, DECAYS, Schedule, schedule_weights, stacked, weighted_sum_

if TYPE_CHECKING:
    from torch import Tensor

    from mergecore import TensorGroup
    from mergecore.types import FactorGroup, Merged

Decay = Annotated[float, Field(ge=0, lt=1)]


class AverageParams(Params):
    """Parameters of `average`."""

    schedule: Schedule = Field(
        "uniform", description="how the checkpoints are weighted; list the oldest first"
    )
    decay: Decay = Field(
        DECAY, description="ema: what is left of the average when the next checkpoint joins it"
    )
    step: PerModel[float | None] = Field(
        (None,),
        description="linear and minus-sqrt: step or tokens of the checkpoint; none if they are evenly spaced",
    )


def average(group: TensorGroup, params: AverageParams) -> Merged:
    """The sum of w_i X_i, with the weights of the schedule, which sum to 1."""
    weights = _weights(params, group.n)
    return group.map(lambda block: weighted_sum_(block.x, weights))


def merge_factors(group: FactorGroup, params: AverageParams) -> tuple[Tensor, Tensor]:
    """The same of products, side by side."""
    return stacked(group.factors, _weights(params, len(group.factors)))


def _weights(params: AverageParams, count: int) -> Sequence[float]:
    return schedule_weights(params.schedule, count, decay=params.decay, at=_steps(params.step, count))


def check_params(params: AverageParams, inputs: int) -> None:
    """Raise E105 for steps that do not rise, and for some without others, or without a schedule that uses them."""
    steps = _steps(params.step, inputs)
    if steps is None:
        if any(step is not None for step in params.step):
            raise ConfigError(
                "E105",
                f"step is given for some of the {inputs} checkpoints only",
                hint="give it for each of them, or for none where they are evenly spaced",
            )
        return
    if params.schedule not in DECAYS:
        raise ConfigError(
            "E105",
            f"step has no effect with schedule: {params.schedule}",
            hint=f"remove it; the schedules that use it are {' and '.join(DECAYS)}",
        )
    if any(later <= earlier for earlier, later in pairwise(steps)):
        raise ConfigError(
            "E105",
            f"the steps do not rise: {', '.join(f'{step:g}' for step in steps)}",
            hint="list the checkpoints in the order of training, each once",
        )


def _steps(given: Sequence[float | None], inputs: int) -> list[float] | None:
    """The step of each checkpoint, where all are known."""
    steps = [step for step in given if step is not None]
    return steps if len(steps) == inputs else None


@hookimpl
def mergecore_merge_methods() -> Iterator[MergeMethod[Any]]:
    yield MergeMethod(
        name="average",
        merge=average,
        merge_factors=merge_factors,
        params=AverageParams,
        result_by="map",
        summary="checkpoints of one run, weighted by a schedule (EMA, WSM)",
        family="Average models that are alike",
        paper="arXiv:2507.17634",
        formula="sum_i w_i X_i; uniform: w_i = 1/n; ema: E_i = d E_(i-1) + (1 - d) X_i from E_0 = X_0; "
        "linear, minus-sqrt: X_0 + sum_i f(i/n) (X_i - X_(i-1)) with f(x) = 1 - x, 1 - sqrt(x)",
        example="""
            merge_method: average
            models:
              - model: ./checkpoint-500
              - model: ./checkpoint-1000
              - model: ./checkpoint-1500
            parameters: {schedule: minus-sqrt}
            dtype: bfloat16
        """,
        check_params=check_params,
    )
