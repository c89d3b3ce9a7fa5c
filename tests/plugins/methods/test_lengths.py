"""Methods on the sphere make nothing longer than the inputs, whatever the shapes, and however near to opposite."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import pytest
import torch
from merging import merge
from torch import Tensor

SHAPES = ((), (1,), (8, 1), (1, 64), (7,), (16, 16), (3, 4, 5))
ANGLES = (0.0, 1e-4, 0.5, math.pi / 2, 3.0, math.pi - 1e-2, math.pi - 1e-4, math.pi - 1e-6, math.pi)
SIZES = (1e-6, 0.01, 0.068, 1.0, 300.0)
CALLS: dict[str, dict[str, Any]] = {
    "slerp": {"t": 0.3},
    "nuslerp": {"weight": [0.7, 0.3]},
    "karcher": {},
    "multislerp": {"weight": [0.7, 0.3]},
}


def pair(shape: tuple[int, ...], angle: float, size: float, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Two tensors of one length at that angle; of a scalar, the nearer of equal and opposite."""
    generator = torch.Generator().manual_seed(1)
    a, b = torch.randn((2, max(1, math.prod(shape))), generator=generator, dtype=torch.float64)
    a /= a.norm()
    b -= (b @ a) * a
    across = b.norm()
    other = math.cos(angle) * a + (math.sin(angle) * b / across if across > 1e-9 else 0)
    return tuple((size * one / one.norm()).view(shape).to(dtype) for one in (a, other))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("call", CALLS)
def test_the_result_is_no_longer_than_the_inputs(call: str, dtype: torch.dtype) -> None:
    for shape, angle, size in product(SHAPES, ANGLES, SIZES):
        one, other = pair(shape, angle, size, dtype)

        merged = merge(call, one, other, **CALLS[call]).double()

        longest = max(one.double().norm(), other.double().norm())
        assert merged.norm() <= longest * (1 + 1e-4), (shape, angle, size)


@pytest.mark.parametrize("call", ["karcher", "multislerp", "slerp", "nuslerp"])
def test_opposite_scalars_of_any_size_stay_between_each_other(call: str) -> None:
    generator = torch.Generator().manual_seed(3)
    for a, b in torch.rand((400, 2), generator=generator):
        merged = merge(call, a, -b, **CALLS[call])
        assert -b * 1.0001 <= merged <= a * 1.0001 or abs(merged) <= max(a, b) * 1.0001


def test_gates_and_heads_that_are_opposite_by_rows_stay_short() -> None:
    generator = torch.Generator().manual_seed(5)
    x = torch.randn((32, 64), generator=generator) * 0.02
    y = (-x * (1 + 1e-7)).clone()
    for columns in (False, True):
        options = CALLS["nuslerp"] | {"nuslerp_flatten": False, "nuslerp_row_wise": columns}
        for one, other in ((x, y), (x[:1], y[:1]), (x[:, :1], y[:, :1])):
            merged = merge("nuslerp", one, other, **options)
            assert merged.abs().max() <= one.abs().max() * 1.0001


def test_norms_of_float64_inputs_leave_them_as_they_are() -> None:
    # 1/2 of 2048 entries is kept, and their L1 norm is brought to that of all: the ratio is 1
    generator = torch.Generator().manual_seed(7)
    base = torch.zeros(2048, dtype=torch.float64)
    x = torch.randn(2048, generator=generator, dtype=torch.float64)
    for method in ("ties", "dare_linear", "breadcrumbs", "della"):
        options = {"gamma": 0.0} if method == "breadcrumbs" else {"epsilon": 0.1} if method == "della" else {}
        merged = merge(method, x, base=base, weight=[1.0], density=[0.5], rescale="l1", **options)
        assert float(merged.abs().sum() / x.abs().sum()) == pytest.approx(1.0, abs=1e-9)
