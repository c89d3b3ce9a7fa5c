"""Matching L1 norms leaves the inputs as they are, in whatever format they are stored."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tiny import registry

from mergecore import MergeMethod
from mergecore.testing import run_method

BASE = torch.zeros(64, 64, dtype=torch.float64)
CHANGE = torch.linspace(-2, 1, 4096, dtype=torch.float64).view(64, 64)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize(
    ("name", "params"), [("dare_linear", {}), ("della_linear", {"epsilon": (0.1,)}), ("ties", {})]
)
def test_a_change_keeps_its_l1_norm_and_its_signs(
    name: str, params: dict[str, Any], dtype: torch.dtype
) -> None:
    method = registry().get(MergeMethod, name)
    given = method.params.model_validate({"weight": (1.0,), "density": (0.5,), "rescale": "l1", **params})
    merged = run_method(method, given, [CHANGE.to(dtype)], BASE.to(dtype), seed=3)
    kept = merged.double()
    assert kept.abs().sum().item() == pytest.approx(CHANGE.abs().sum().item(), rel=1e-6)
    assert 0 < int((kept != 0).sum()) < CHANGE.numel()
    assert bool(((kept == 0) | (kept.sign() == CHANGE.sign())).all())
