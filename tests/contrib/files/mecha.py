"""Methods in the style of sd-mecha."""

import torch
from sd_mecha import Parameter, Return, StateDict, merge_method
from torch import Tensor


@merge_method
def add_orthogonal(
    a: Parameter(Tensor, "weight"), b: Parameter(Tensor, "delta"), alpha: Parameter(Tensor) = 1.0
) -> Return(Tensor, "weight"):
    """a plus what b - base has at right angles to a."""
    return a + alpha * (b - (a * b).sum() / a.square().sum() * a)


@merge_method
def running_mean(*models: Parameter(StateDict[Tensor]), **kwargs) -> Return(Tensor):
    """The mean of any number of models."""
    result = None
    for i, model in enumerate(models, start=1):
        x = model[kwargs["key"]]
        result = x if result is None else torch.lerp(result, x, 1 / i)
    return result


@merge_method(identifier="halved_delta")
def halved(a: Parameter(Tensor, "delta"), factor: Parameter(float) = 0.5) -> Return(Tensor, "delta"):
    """Part of the way from the base."""
    return a * factor


@merge_method
def other_tensor(a: Parameter(StateDict[Tensor], "weight"), **kwargs) -> Return(Tensor, "weight"):
    """Looks at a tensor of another name."""
    return a["another"]
