"""Random numbers for tensors that are computed while they are read."""

from __future__ import annotations

import pytest
import torch

from mergecore.compute import normal, uniform_numbers


def test_uniform_numbers_become_normal_ones() -> None:
    numbers = normal(torch.tensor([0.0, 0.5, 1 - 2.0**-24]))
    assert numbers[1].item() == pytest.approx(0, abs=1e-6)
    assert numbers[0].item() == pytest.approx(-numbers[2].item())
    assert torch.isfinite(numbers).all()


def test_numbers_depend_on_seed_name_purpose_and_position_only() -> None:
    whole = uniform_numbers(7, "w", "noise", 0, 1000)
    assert torch.equal(uniform_numbers(7, "w", "noise", 123, 457), whole[123:457])
    for seed, name, purpose in ((8, "w", "noise"), (7, "v", "noise"), (7, "w", "gate")):
        assert not torch.equal(uniform_numbers(seed, name, purpose, 0, 1000), whole)
    assert abs(float(whole.mean()) - 0.5) < 0.05  # the standard error is 0.009
    assert abs(float(normal(whole).std()) - 1) < 0.1  # 0.022
