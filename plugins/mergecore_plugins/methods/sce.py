"""SCE: select where the models differ most, calculate a weight for each, erase minorities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mergecore import Field, MergeMethod, Params, hookimpl
from mergecore_plugins.methods.common import shares

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from mergecore import Block, TensorGroup
    from mergecore.types import Cut, Merged

LEAST_WEIGHT = 1e-6
"""Where the weights of the models that agree sum to less, the divisor stays at this."""
_STRETCH = 2**16
"""float64 is for so many elements at once that they stay in the cache."""
_HUGE = 1e30
"""A variance of which float32 cannot hold the steps."""


class SceParams(Params):
    """Parameters of `sce`."""

    select_topk: float = Field(
        1.0, ge=0, le=1, description="fraction of the elements that differ to merge; 1 merges all elements"
    )
    int8_mask: bool = Field(
        False,
        description="accepted for compatibility; has no effect",
        json_schema_extra={"deprecated": True},
    )


def sce(group: TensorGroup, params: SceParams) -> Merged:
    """B + the weighted mean of those X_i - B whose sign is that of their sum, where the X_i vary most."""
    cut = None
    if params.select_topk < 1:
        cut = group.cut_of(
            lambda block: variance(block.x), lambda differing: int(differing * params.select_topk)
        )
    weights = _weights(group, cut)
    return group.map(lambda block: _erase_and_average_(block, cut, weights))


def variance(x: Tensor) -> Tensor:
    """The population variance of x (n, m) over its n inputs, exact but for one rounding to the dtype of x (m,).

    It is computed in float64 from the differences to the first input, so that it is 0 where all are equal.
    """
    result = x.new_zeros(x.shape[1])
    if len(x) > 1:
        for part, stretch in zip(x.split(_STRETCH, dim=1), result.split(_STRETCH), strict=True):
            first = part[0].double()
            stretch.copy_(_variance_([row.to(first, copy=True).sub_(first) for row in part[1:]]))
    return result


def _variance_(differences: Sequence[Tensor]) -> Tensor:
    """The variance of 0 and of the differences (m,) of the others to it, which are overwritten."""
    total = differences[0].clone()
    for difference in differences[1:]:
        total.add_(difference)
    squares = differences[0].mul_(differences[0])
    for difference in differences[1:]:
        squares.add_(difference.mul_(difference))
    n = len(differences) + 1
    return squares.mul_(n).sub_(total.mul_(total)).div_(n * n)


def _selected(block: Block, cut: Cut | None) -> Tensor | None:
    """1 where the cut selects and 0 elsewhere (m,); nothing when there is no cut.

    Variances are computed in the dtype of the block, and in float64 only where rounding could decide.
    """
    if cut is None:
        return None
    x = block.x
    if len(x) == 1 or not 0 < cut.value < _HUGE:
        return cut.trim_(variance(x), block.index).sign_()
    return cut.trim_(_variance_near(x, cut.value), block.index).sign_()


def _variance_near(x: Tensor, value: float) -> Tensor:
    """The variance of x (n, m) over its n inputs (m,), exact where it is near `value`."""
    import numpy as np
    from torch import from_numpy

    result = x.new_empty(x.shape[1])
    for part, rough in zip(x.split(_STRETCH, dim=1), result.split(_STRETCH), strict=True):
        rough.copy_(_variance_([row - part[0] for row in part[1:]]))
    distance = (result - value).abs_().cpu().numpy()
    far = distance > len(x) ** 2 * 2e-7 * value + 1e-36  # false for NaN, which overflow makes
    near = from_numpy(np.flatnonzero(~far)).to(x.device)
    result[near] = variance(x[:, near])
    return result


def _weights(group: TensorGroup, cut: Cut | None) -> Sequence[float]:
    """The shares of the models in the sum of squares of what is selected; equal ones when that is 0."""
    from mergecore.compute import gram

    def squares(block: Block) -> Tensor:
        selected = _selected(block, cut)
        if selected is not None:
            block.x.mul_(selected)
        return gram(block.x.unsqueeze(1)).view(-1)

    totals = group.reduce(squares).tolist()
    return shares(totals) if any(totals) else [1 / group.n] * group.n


def _erase_and_average_(block: Block, cut: Cut | None, weights: Sequence[float]) -> Tensor:
    import torch

    selected = _selected(block, cut)
    sign = _signs_of_sums(block.x)
    total = sign.new_zeros(sign.shape)
    agreeing = sign.new_zeros(sign.shape)
    product = torch.empty_like(total)
    for row, weight in zip(block.x, weights, strict=True):
        row.mul_(sign).clamp_(min=0)  # what disagrees becomes 0
        total.add_(torch.mul(row, weight, out=product))
        agreeing.add_(row.gt_(0), alpha=weight)
    mean = total.mul_(sign).div_(agreeing.clamp_(min=LEAST_WEIGHT))
    return mean if selected is None else mean.mul_(selected)


def _signs_of_sums(x: Tensor) -> Tensor:
    """-1 where the sum of x (n, m) over its n inputs is below 0, else 1 (m,); summed in float64."""
    import torch

    signs = x.new_empty(x.shape[1])
    for part, sign in zip(x.split(_STRETCH, dim=1), signs.split(_STRETCH), strict=True):
        votes = part[0].to(torch.float64, copy=True)
        for row in part[1:]:
            votes += row
        sign.copy_(votes.lt_(0))
    return signs.mul_(-2).add_(1)


@hookimpl
def mergecore_merge_methods() -> Iterator[MergeMethod[Any]]:
    yield MergeMethod(
        name="sce",
        merge=sce,
        params=SceParams,
        keeps=("order",),
        result_by="map",
        summary="entries that vary most, weighted by energy, sign elected",
        family="Join fine-tunes of one base",
        space="delta",
        base="required",
        paper="arXiv:2408.07990",
        formula="B + sum_i q_i e_i d_i / sum_i q_i e_i, d_i = X_i - B where selected, q_i = |d_i|^2 / sum_j |d_j|^2, "
        "e_i: agrees with the sign of sum_j d_j",
        example="""
            merge_method: sce
            base_model: ./base
            models:
              - model: ./a
              - model: ./b
            parameters: {select_topk: 0.1}
            dtype: bfloat16
        """,
        input_passes=4,
    )
