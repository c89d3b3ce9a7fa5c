"""Exact selection on a quantity that is computed from the blocks, not stored."""

import pytest
import torch
from torch import Tensor

from mergecore import Block, TensorGroup
from mergecore.testing import run_method
from mergecore.types import Blocks, MergeMethod
from mergecore.types.params import Params
from mergecore.types.steps import BLOCK


class _Square(Params):
    keep: float = 1.0
    ranks: tuple[int, ...] = ()
    rows: bool = False


def _squared(block: Block) -> Tensor:
    return block.x[0].square()


def _keep_largest_squares(group: TensorGroup, params: _Square) -> Blocks:
    cut = group.cut_of(_squared, lambda nonzero: int(nonzero * params.keep))
    return group.map(lambda block: cut.trim_(_squared(block), block.index))


def _fill_with_ranked_squares(group: TensorGroup, params: _Square) -> Tensor:
    values = group.largest_of(_squared, params.ranks, rows=params.rows)
    return torch.tensor(values, dtype=group.dtype).expand(group.shape)


SELECT = MergeMethod(name="select", merge=_keep_largest_squares, params=_Square)
RANKED = MergeMethod(name="ranked", merge=_fill_with_ranked_squares, params=_Square)


def test_a_share_of_what_is_not_zero_is_kept_the_largest_first() -> None:
    x = torch.tensor([1.0, -3.0, 0.0, 2.0, 0.0, -4.0])
    # four squares are not 0; half of them are 16 and 9
    assert run_method(SELECT, _Square(keep=0.5), [x]).tolist() == [0, 9, 0, 0, 0, 16]


def test_equals_are_kept_from_the_front() -> None:
    x = torch.tensor([2.0, -2.0, 1.0, 2.0])
    assert run_method(SELECT, _Square(keep=0.5), [x]).tolist() == [4, 4, 0, 0]


@pytest.mark.parametrize("keep", [0.0, 0.2])
def test_nothing_is_kept_when_the_share_is_less_than_one_element(keep: float) -> None:
    x = torch.tensor([1.0, 2.0, 3.0, 0.0])
    assert run_method(SELECT, _Square(keep=keep), [x]).tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("rows", [False, True])
def test_ranks_are_those_of_a_sort(dtype: torch.dtype, rows: bool) -> None:
    x = torch.randn(3, BLOCK // 2, generator=torch.Generator().manual_seed(0), dtype=dtype)
    ordered = x.square().view(-1).sort(descending=True).values
    for rank in (1, 2, x.numel() // 3, x.numel()):
        found = run_method(RANKED, _Square(ranks=(rank,), rows=rows), [x])
        assert found[0, 0] == ordered[rank - 1]


def test_the_smallest_of_a_tensor_is_its_last_rank() -> None:
    x = torch.tensor([3.0, 1.0, 2.0])
    assert run_method(RANKED, _Square(ranks=(3, 1, 2)), [x]).tolist() == [1, 9, 4]
