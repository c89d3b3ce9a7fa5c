"""Blocks of whole columns, for vectors that lie along the first axis of a tensor."""

import pytest
import torch
from torch import Tensor

from mergecore import Block, MergeMethod, Params, TensorGroup
from mergecore.compute import group
from mergecore.testing import run_method
from mergecore.types import Blocks


def _scaled_by_column_sum(group: TensorGroup, params: Params) -> Blocks:
    def merge(block: Block) -> Tensor:
        return block.x[0] * block.x[0].sum(0)

    return group.map_columns(merge)


METHOD = MergeMethod(name="columns", merge=_scaled_by_column_sum, params=Params)


@pytest.mark.parametrize("block", [1, 4, 10, 1000])
@pytest.mark.parametrize("shape", [(2, 3, 4), (3, 1, 2), (1, 2, 2), (4, 5, 1)])
def test_a_column_is_never_cut(monkeypatch: pytest.MonkeyPatch, block: int, shape: tuple[int, ...]) -> None:
    monkeypatch.setattr(group, "BLOCK", block)
    x = torch.arange(float(torch.Size(shape).numel())).view(shape)
    assert torch.equal(run_method(METHOD, Params(), [x]), x * x.sum(0))


def test_the_base_is_taken_off_and_added_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group, "BLOCK", 4)
    base = torch.ones(2, 3, 2)
    x = torch.arange(12.0).view(2, 3, 2) + 1  # the differences are 0 to 11
    # the columns of the differences are 0, 6; 1, 7; 2, 8 …, their sums 6, 8, 10, 12, 14, 16
    expected = [0 * 6 + 1, 1 * 8 + 1, 2 * 10 + 1, 3 * 12 + 1, 4 * 14 + 1, 5 * 16 + 1]
    assert run_method(METHOD, Params(), [x], base)[0].view(-1).tolist() == expected
