"""RAM+, tensor-local: RAM with what one model alone changes amplified, the more it shares in this tensor."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from mergecore import Field, MergeMethod, hookimpl
from mergecore_plugins.methods.common.activity import keep_active_, sum_and_count_
from mergecore_plugins.methods.ram import RamParams

if TYPE_CHECKING:
    from torch import Tensor

    from mergecore import Block, TensorGroup
    from mergecore.types import Merged


class RamplusTlParams(RamParams):
    """Parameters of `ramplus_tl`."""

    r: float = Field(0.1, description="amplification for each element shared per element changed alone")
    alpha: float = Field(0.2, ge=0, description="the largest such ratio that counts")


def ramplus_tl(group: TensorGroup, params: RamplusTlParams) -> Merged:
    """B + the mean over the active models, where only one is active times its amplification."""
    from torch import stack

    def counts(block: Block) -> Tensor:
        x = keep_active_(block.x, params.epsilon)
        alone = sum_and_count_(x)[1].eq_(1)
        return stack([x.sum(1), x @ alone])  # (2, n); sums of so few ones are exact

    active, unique = group.reduce(counts).tolist()
    gains = amplifications(active, unique, params)

    def merge(block: Block) -> Tensor:
        x = keep_active_(block.x, params.epsilon)
        gain = x.new_zeros(x.shape[1])
        for row, factor in zip(x, gains, strict=True):
            gain.add_(row * (factor - 1))
        total, count = sum_and_count_(x)
        mean = total.div_(count.clamp(min=1))
        return mean.addcmul_(gain, count.eq_(1))

    return group.map(merge)


def amplifications(active: Sequence[float], unique: Sequence[float], params: RamplusTlParams) -> list[float]:
    """The factor of each model's own elements, from how many it changes, and how many of these alone."""
    ratios = [(every - own) / own if own else 0.0 for every, own in zip(active, unique, strict=True)]
    return [1 + params.r * min(ratio, params.alpha) for ratio in ratios]


@hookimpl
def mergecore_merge_methods() -> Iterator[MergeMethod[Any]]:
    yield MergeMethod(
        name="ramplus_tl",
        merge=ramplus_tl,
        params=RamplusTlParams,
        keeps=("order",),
        result_by="map",
        summary="ram, with what one model alone changes amplified",
        family="Join fine-tunes of one base",
        space="delta",
        base="required",
        paper="arXiv:2601.13572",
        formula="as ram, with g_i (X_i - B) where only a_i is 1, g_i = 1 + r min(alpha, shared_i / unique_i), "
        "the numbers of elements of the tensor that model i changes with others, and alone",
        example="""
            merge_method: ramplus_tl
            base_model: ./base
            models:
              - model: ./a
              - model: ./b
            parameters: {r: 0.1, alpha: 0.2, epsilon: 1.0e-5}
            dtype: bfloat16
        """,
        input_passes=2,
    )
