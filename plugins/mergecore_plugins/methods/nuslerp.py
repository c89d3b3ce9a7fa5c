"""NuSLERP: the point between two models, or two task vectors, on the arc that their weights divide."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from mergecore import Field, MergeMethod, Params, PerModel, hookimpl
from mergecore_plugins.methods.common import weighted_sum_
from mergecore_plugins.methods.common.sphere import arc, cosines, lengths

if TYPE_CHECKING:
    from torch import Tensor

    from mergecore import TensorGroup
    from mergecore.types import Merged

SHORTEST = 1e-7
"""Vectors shorter than this count as this long, so that a zero vector stands at a right angle to everything."""
NO_SUM = 1e-6
"""Weights whose sum is nearer to 0 divide no arc: the middle stands for all of them, as in mergekit."""


class NuslerpParams(Params):
    """Parameters of `nuslerp`."""

    weight: PerModel[float] = Field(
        description="share of the model: the second one's is the position on the arc"
    )
    nuslerp_flatten: bool = Field(True, description="take each tensor as one vector")
    nuslerp_row_wise: bool = Field(
        False, description="unless flattened: false takes the rows of a matrix as vectors, true its columns"
    )


def nuslerp(group: TensorGroup, params: NuslerpParams) -> Merged:
    """c_1 X_1 + c_2 X_2, of the tensors, or of their differences to the base when there is one."""
    t = position(params.weight)
    if params.nuslerp_flatten or len(group.shape) < 2:
        first, second = _factors(group.gram(), t)
        return group.map(lambda block: weighted_sum_(block.x, (first.item(), second.item())))
    if not params.nuslerp_row_wise:
        return group.map(lambda block: _on_rows_(block.x, t), rows=True)
    if len(group.shape) > 2:
        return group.map_columns(lambda block: _sum_(block.x, _factors(_gram_of_columns(block.x), t)))
    factors = _factors(group.reduce(lambda block: _gram_of_columns(block.x), rows=True), t)  # (columns,)
    return group.map(lambda block: _sum_(block.x, factors), rows=True)


def position(weights: Sequence[float]) -> float:
    """The share of the second weight; half the way where the weights sum to 0."""
    first, second = weights
    return 0.5 if abs(first + second) < NO_SUM else second / (first + second)


def _on_rows_(x: Tensor, t: float) -> Tensor:
    from mergecore.compute import gram

    first, second = _factors(gram(x.transpose(0, 1)), t)  # (rows,)
    return _sum_(x, (first.unsqueeze(-1), second.unsqueeze(-1)))


def _gram_of_columns(x: Tensor) -> Tensor:
    from mergecore.compute import gram

    return gram(x.permute(2, 0, 1))  # (columns, 2, 2)


def _factors(gram: Tensor, t: float) -> tuple[Tensor, Tensor]:
    return arc(cosines(gram, lengths(gram).clamp(min=SHORTEST))[..., 0, 1], t)


def _sum_(x: Tensor, factors: tuple[Tensor, Tensor]) -> Tensor:
    first, second = (factor.to(x) for factor in factors)
    return x[0].mul_(first).add_(x[1].mul_(second))


@hookimpl
def mergecore_merge_methods() -> Iterator[MergeMethod[Any]]:
    yield MergeMethod(
        name="nuslerp",
        merge=nuslerp,
        params=NuslerpParams,
        keeps=("order",),
        summary="the same by weights; whole tensors, rows or columns",
        family="Blend models, keeping the size of their weights",
        space="delta",
        base="optional",
        models=(2, 2),
        paper="Shoemake, Animating rotation with quaternion curves, 1985",
        formula="[B +] sin((1-t) w) / sin(w) X_1 + sin(t w) / sin(w) X_2, t = w_2 / (w_1 + w_2), "
        "1/2 where they sum to 0, w the angle between the two [differences to B]",
        example="""
            merge_method: nuslerp
            models:
              - model: ./a
                parameters: {weight: 0.4}
              - model: ./b
                parameters: {weight: 0.6}
            dtype: bfloat16
        """,
        reproducible="same-machine",
        input_passes=2,
    )
