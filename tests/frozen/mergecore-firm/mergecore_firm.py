"""firm: the largest differences to the base, weighed, scaled, and some of them dropped at random."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

from mergecore import ConfigError, Field, MergeMethod, Params, PerModel, hookimpl

if TYPE_CHECKING:
    import torch

    from mergecore import Block, TensorGroup
    from mergecore.types import Merged

MERGECORE_API = 1


class FirmParams(Params):
    """What configs say."""

    weight: PerModel[float] = Field(
        default=(1.0,), description="weight of the model's difference to the base"
    )
    density: PerModel[Annotated[float, Field(gt=0, le=1)]] = Field(default=(0.5,), description="what is kept")
    drop: float = Field(default=0.25, ge=0, lt=1, description="probability that an element is dropped")
    halve: bool = Field(
        default=True, description="halve the result where the largest sum of magnitudes is over 1"
    )
    scale: float = Field(default=1.0, alias="lambda", description="factor of the result")


def firm(group: TensorGroup, params: FirmParams) -> Merged:
    """Sum of w_i trim(X_i - B, density_i), by the numbers of all blocks."""
    cuts = [group.kth_largest(model, density) for model, density in enumerate(params.density)]
    sums = group.reduce(lambda block: block.x.abs().sum(-1))  # (n,)
    factor = 0.5 * params.scale if params.halve and float(sums.max()) > 1 else params.scale

    def add(block: Block) -> torch.Tensor:
        for model, weight in enumerate(params.weight):
            cuts[model].trim_(block.x[model], block.index)
            block.x[model].mul_(block.uniform(model, "firm") >= params.drop).mul_(weight * factor)
        return block.x.sum(0)

    return group.map(add)


def check_params(params: FirmParams, n: int) -> None:
    """Weights that cancel each other make nothing."""
    if sum(params.weight) == 0:
        raise ConfigError("E105", "the weights add up to 0")


@hookimpl
def mergecore_merge_methods() -> Iterator[MergeMethod[FirmParams]]:
    yield MergeMethod(
        name="firm",
        merge=firm,
        params=FirmParams,
        space="delta",
        base="required",
        models=(1, None),
        formula="B + lambda sum_i w_i trim(X_i - B)",
        input_passes=4,
        check_params=check_params,
    )
