"""The slot *combine* where no method shows it all."""

from __future__ import annotations

import pytest
import torch

from mergecore_plugins.methods.common import choose_


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_is_chosen_keeps_its_bits(dtype: torch.dtype) -> None:
    """Neither -0 nor a difference that is beyond the range is lost, as a weighted mean would lose them."""
    largest = torch.finfo(dtype).max
    first = torch.tensor([-0.0, 1.0, largest, 2.0], dtype=dtype)
    second = torch.tensor([3.0, -0.0, 4.0, -largest], dtype=dtype)
    chosen = choose_(torch.tensor([1, 0, 1, 0], dtype=dtype), first, second)
    assert chosen.tolist() == [0, 0, largest, -largest]
    assert chosen.signbit().tolist() == [True, True, False, True]
