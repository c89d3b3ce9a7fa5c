"""A weighted mean with the mean RMS of its inputs, as a batch kernel of mergekit 0.1.5."""

from typing import Annotated

import torch
from mergekit.merge_methods import BatchParameter, ParameterScope, TensorBatch
from mergekit.merge_methods.easy_define import merge_method


@merge_method(name="rms_mean")
def rms_mean(
    batch: TensorBatch,
    weight: Annotated[torch.Tensor, BatchParameter(float, ParameterScope.INPUT)] = 1.0,
    strength: Annotated[torch.Tensor, BatchParameter(float)] = 1.0,
) -> torch.Tensor:
    x = torch.stack(batch.tensors, dim=1)  # [tensors, inputs, *shape]
    groups, inputs = x.shape[:2]
    flat = x.reshape(groups, inputs, -1)
    shares = weight / weight.sum(1, keepdim=True)
    mean = (flat * shares.unsqueeze(-1)).sum(1)
    wanted = (flat.square().mean(2).sqrt() * shares).sum(1)
    factor = (wanted / mean.square().mean(1).sqrt()) ** strength
    return (mean * factor.unsqueeze(-1)).view(groups, *x.shape[2:])
