"""Model Stock: the mean of the models, moved towards the base the more their task vectors disagree."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from typing import TYPE_CHECKING, Any

from mergecore import Field, MergeMethod, Params, hookimpl
from mergecore_plugins.methods.common import weighted_sum_
from mergecore_plugins.methods.common.sphere import cosines, lengths

if TYPE_CHECKING:
    from torch import Tensor

    from mergecore import TensorGroup
    from mergecore.types import Merged


class ModelStockParams(Params):
    """Parameters of `model_stock`."""

    filter_wise: bool = Field(
        False, description="one ratio for each row of a matrix instead of one for the tensor"
    )


def model_stock(group: TensorGroup, params: ModelStockParams) -> Merged:
    """B + t times the mean of X_i - B, t from the angles between them."""
    if params.filter_wise and len(group.shape) > 1:
        return group.map(lambda block: _on_rows_(block.x), rows=True)
    factor = ratio(group.gram()).item() / group.n
    return group.map(lambda block: weighted_sum_(block.x, [factor] * group.n))


def ratio(gram: Tensor) -> Tensor:
    """The ratio t (…), 0 to 1, from the dot products (…, n, n) of task vectors; zero is at right angles to all."""
    length = lengths(gram)
    cosine = cosines(gram, length.masked_fill(length == 0, 1))
    n = cosine.shape[-1]
    pairs = list(combinations(range(n), 2))
    total = sum((cosine[..., i, j] for i, j in pairs), start=cosine.new_zeros(()))
    mean = (total / len(pairs)).clamp(0, 1)  # with an angle above 90° the base is best
    return n * mean / (1 + (n - 1) * mean)


def _on_rows_(x: Tensor) -> Tensor:
    from mergecore.compute import gram

    factors = ratio(gram(x.transpose(0, 1))) / len(x)  # (rows,)
    return weighted_sum_(x, [1.0] * len(x)).mul_(factors.to(x).unsqueeze(-1))


@hookimpl
def mergecore_merge_methods() -> Iterator[MergeMethod[Any]]:
    yield MergeMethod(
        name="model_stock",
        merge=model_stock,
        params=ModelStockParams,
        keeps=("order",),
        result_by="rows",
        summary="average, drawn to the base as far as the models disagree",
        family="Average models that are alike",
        space="delta",
        base="required",
        models=(2, None),
        paper="arXiv:2403.19522",
        formula="B + t mean_i (X_i - B), t = n c / (1 + (n-1) c), c the mean cosine between the X_i - B, 0 to 1",
        example="""
            merge_method: model_stock
            base_model: ./base
            models:
              - model: ./a
              - model: ./b
            dtype: bfloat16
        """,
        input_passes=2,
    )
