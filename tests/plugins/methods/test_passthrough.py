"""Tensors as they are, or scaled."""

from __future__ import annotations

import pytest
import torch
from task_vectors import close, golden, method_called
from torch import Tensor

from mergecore.testing import run_method
from mergecore_plugins.methods.passthrough import PassthroughParams

PASSTHROUGH = method_called("passthrough")


def merged(tensor: Tensor, scale: float | None = None) -> Tensor:
    return run_method(PASSTHROUGH, PassthroughParams(scale=(scale,)), [tensor])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_a_tensor_comes_out_with_the_same_bits(dtype: torch.dtype) -> None:
    limits = torch.finfo(dtype)
    numbers = torch.tensor([0.0, -0.0, limits.tiny / 2, limits.max, -limits.max, 1 / 3], dtype=dtype)
    same = merged(numbers).to(dtype)
    assert same.view(torch.uint8).equal(numbers.view(torch.uint8))


def test_a_tensor_is_scaled() -> None:
    assert merged(torch.tensor([2.0, -4]), 0.5).tolist() == [1, -2]
    assert merged(torch.tensor([2.0, -4]), 0).tolist() == [0, 0]


def test_without_a_scale_nothing_is_multiplied() -> None:
    assert PassthroughParams().scale == (None,)


def test_golden_numbers_come_out() -> None:
    base, deltas = golden()
    digits = (
        "0.261753 0.129233 -0.061810 -0.198558 -0.226256 -0.160408 "
        "0.167679 0.274571 0.136741 -0.081538 -0.207114 -0.206972"
    )
    assert close(merged(base + deltas[0], 0.5), digits)
