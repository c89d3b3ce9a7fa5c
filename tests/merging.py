"""For tests of merge methods: run one on a few numbers, and the golden inputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from task_vectors import golden, method_called
from torch import Tensor

from mergecore import Params
from mergecore.testing import run_method

Numbers = Sequence[float] | Sequence[Sequence[float]] | Tensor


def tensor(numbers: Numbers) -> Tensor:
    return numbers if isinstance(numbers, Tensor) else torch.tensor(numbers)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def params_of(name: str, **parameters: Any) -> Params:
    params: type[Params] = method_called(name).params
    return params.model_validate(parameters)


def merge(name: str, *models: Numbers, base: Numbers | None = None, **parameters: Any) -> Tensor:
    """What a method makes of models, and of a base where it takes one."""
    method = method_called(name)
    tensors = [tensor(one) for one in models]
    base = None if base is None else tensor(base)
    if base is not None and method.space == "weight":
        tensors, base = [base, *tensors], None
    return run_method(method, params_of(name, **parameters), tensors, base)


def golden_models(*numbers: int) -> list[Tensor]:
    """The golden models of these numbers, 1 to 3; number 0 is the base."""
    base, deltas = golden()
    whole = [base, *(base + delta for delta in deltas)]
    return [whole[number] for number in numbers]
