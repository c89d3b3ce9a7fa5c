"""MetaGPT: each model is weighted by its share of the squared lengths of all task vectors."""

from __future__ import annotations

from collections.abc import Iterator

from mergecore import NoParams, Policy, hookimpl
from mergecore.types import Coefficients, PolicyRequest
from mergecore_plugins.coefficients.sums import check_weights, task_vector_sums


def metagpt(request: PolicyRequest, params: NoParams) -> Coefficients:
    """w_t = |D_t|^2 / sum_s |D_s|^2, D_t the difference of model t to the base over all merged tensors.

    The weights sum to 1.  Where no model differs from the base, they are equal.
    """
    check_weights(request, "metagpt")
    squares = task_vector_sums(request, lambda step, deltas: [float((one * one).sum()) for one in deltas])
    total = sum(squares)
    if not total:
        notes = ["no model differs from the base; the weights are equal"]
        return Coefficients([{"weight": 1 / len(request.models)}] * len(request.models), notes=notes)
    return Coefficients([{"weight": one / total} for one in squares])


@hookimpl
def mergecore_policies() -> Iterator[Policy[NoParams]]:
    yield Policy(
        name="metagpt",
        choose=metagpt,
        params=NoParams,
        summary="weights by the squared lengths of the task vectors",
        paper="arXiv:2406.11385",
    )
