"""SLERP: the point at `t` on the arc between two models, each tensor taken as one vector."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from mergecore import ConfigError, Field, MergeMethod, Params, PerModel, hookimpl
from mergecore_plugins.methods.common import check_sum, weighted_sum_
from mergecore_plugins.methods.common.sphere import arc, cosines, lengths

if TYPE_CHECKING:
    from mergecore import TensorGroup
    from mergecore.types import Merged

NEARLY_PARALLEL = 0.9995
"""Above this cosine the arc is so flat that the straight line is as good and safer."""
SHORT = 1e-8
"""Tensors up to this length count as 0."""


class SlerpParams(Params):
    """Parameters of `slerp`."""

    t: float | None = Field(default=None, description="position on the arc: 0 is the base model, 1 the other")
    weight: PerModel[float | None] = Field(
        default=(None,), description="in place of t, which is the share of the other"
    )


def slerp(group: TensorGroup, params: SlerpParams) -> Merged:
    """c_0 X_0 + c_1 X_1, X_0 the base; the angle is that of the directions, the factors are for the tensors.

    A tensor of length 0 stands at a right angle to everything.
    """
    gram = group.gram()
    length = lengths(gram)
    cosine = cosines(gram, length.masked_fill(length <= SHORT, 1))[0, 1]
    factors = [factor.item() for factor in arc(cosine, position(params), NEARLY_PARALLEL)]
    return group.map(lambda block: weighted_sum_(block.x, factors))


def position(params: SlerpParams) -> float:
    """`t`, or the share of the other model's weight."""
    if params.t is not None:
        return params.t
    base, other = (weight or 0.0 for weight in params.weight)
    return other / (base + other)


def check_params(params: SlerpParams, inputs: int) -> None:
    """Raise E105 when neither `t` nor the weights are given, E404 when the weights sum to 0."""
    weights = [weight for weight in params.weight if weight is not None]
    if params.t is None and not weights:
        raise ConfigError(
            "E105", "slerp needs 't'", hint="write parameters: {t: 0.5}, or a weight for each model"
        )
    if params.t is None:
        check_sum([weight or 0.0 for weight in params.weight], option=None)


@hookimpl
def mergecore_merge_methods() -> Iterator[MergeMethod[Any]]:
    yield MergeMethod(
        name="slerp",
        merge=slerp,
        params=SlerpParams,
        result_by="map",
        summary="point on the arc between two models",
        family="Blend models, keeping the size of their weights",
        base="required",
        models=(1, 1),
        paper="Shoemake, Animating rotation with quaternion curves, 1985",
        formula="sin((1-t) w) / sin(w) X_0 + sin(t w) / sin(w) X_1, w the angle between the two",
        example="""
            merge_method: slerp
            base_model: ./a
            models:
              - model: ./a
              - model: ./b
            parameters:
              t:
                - filter: self_attn
                  value: [0, 0.5, 1]
                - value: 0.5
            dtype: bfloat16
        """,
        input_passes=2,
        check_params=check_params,
    )
