"""LiNeS: what is merged counts more from layer to layer, so that shallow layers stay near the base."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from mergecore import Field, Params, Policy, hookimpl
from mergecore.errors import ConfigError
from mergecore.types import Coefficients, PolicyRequest, Step
from mergecore_plugins.coefficients.sums import check_weights, task_vector_sums

if TYPE_CHECKING:
    from torch import Tensor


class LinesParams(Params):
    """Parameters of `lines`."""

    beta: float = Field(description="how much is added at the last layer; for one fine-tune, 1 - alpha")
    alpha: float | None = Field(
        default=None,
        description="lambda of the first layer, and of tensors outside the layers; by default such that the "
        "result has the size of the mean of the task vectors, for task_arithmetic",
    )


def lines(request: PolicyRequest, params: LinesParams) -> Coefficients:
    """Lambda = alpha + beta l / (L - 1) in layer l of L, alpha outside: a gradient along the layers.

    alpha is (1 / T) |sum_t D_t|_1 / |sum_t w_t D_t|_1 for T task vectors D_t with weights w_t, over all tensors.
    """
    check_weights(request, "lines")
    if "lambda" not in request.method.params.model_json_schema()["properties"]:
        what = f"lines chooses lambda, which {request.method.name} does not have"
        raise ConfigError("E105", what, hint="use a method such as task_arithmetic or ties")
    alpha = params.alpha if params.alpha is not None else _alpha(request)
    return Coefficients(shared={"lambda": [alpha, alpha + params.beta]})


def _alpha(request: PolicyRequest) -> float:
    import torch

    if request.method.name != "task_arithmetic":
        what = f"lines computes alpha for task_arithmetic alone; {request.method.name} needs one"
        raise ConfigError("E105", what, hint="give it, such as -p alpha=0.5")

    def lengths(step: Step, deltas: Sequence[Tensor]) -> list[float]:
        plain = torch.stack(list(deltas)).sum(0)
        weights = getattr(step.params, "weight", ())
        weights = weights if len(weights) == len(deltas) else weights * len(deltas)
        merged = torch.stack([weight * one for weight, one in zip(weights, deltas, strict=True)]).sum(0)
        if getattr(step.params, "normalize", False) and sum(weights):
            merged = merged / sum(weights)
        return [float(abs(plain).sum()), float(abs(merged).sum())]

    plain, merged = task_vector_sums(request, lengths)
    if not merged:
        raise ConfigError(
            "E105", "the weighted task vectors sum to 0", hint="give alpha, such as -p alpha=0.5"
        )
    return plain / merged / len(request.models)


@hookimpl
def mergecore_policies() -> Iterator[Policy[LinesParams]]:
    yield Policy(
        name="lines",
        choose=lines,
        params=LinesParams,
        summary="lambda that grows along the layers (LiNeS)",
        paper="arXiv:2410.17146",
    )
