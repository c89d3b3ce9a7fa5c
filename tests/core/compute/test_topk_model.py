"""Cuts through whole models, against a stable sort of all their tensors in a row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from mergecore import MergeMethod, Params, TensorGroup
from mergecore.compute import group
from mergecore.compute.topk import one_tensor as topk
from mergecore.compute.topk.whole_model import Groups, ModelCut, find_cuts, inputs_by_model
from mergecore.testing import run_model
from mergecore.types import Blocks, Json


class Slot(Params):
    slot: int
    counts: tuple[int, ...]


def prepare(groups: Sequence[TensorGroup], params: Sequence[Slot]) -> Json:
    cuts = find_cuts(groups, {model: [k] for model, k in enumerate(params[0].counts)})
    return [list(cut) for [cut] in cuts.values()]


def trim(group: TensorGroup, params: Slot) -> Blocks:
    state: Any = group.state
    cut = ModelCut(*state[params.slot]).within(group, params.slot)
    return group.map(lambda block: cut.trim_(block.x[params.slot], block.index))


METHOD = MergeMethod(name="test", merge=trim, params=Slot, prepare=prepare)


def trimmed(
    models: Sequence[dict[str, Tensor]], counts: Sequence[int], block: int, **options: Any
) -> list[Tensor]:
    """Each model with its largest magnitudes only, all tensors in a row."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(group, "BLOCK", block)
        patch.setattr(topk, "CANDIDATES", options.pop("candidates", 1 << 21))
        found = []
        for slot in range(len(models)):
            params = Slot(slot=slot, counts=tuple(counts))
            found.append(run_model(METHOD, params, models, **options))
    return [in_a_row(one) for one in found]


def in_a_row(model: dict[str, Tensor]) -> Tensor:
    return torch.cat([tensor.reshape(-1).double() for tensor in model.values()])


def sorted_out(x: Tensor, k: int) -> Tensor:
    kept = x.abs().sort(descending=True, stable=True).indices[:k]
    return torch.zeros_like(x).index_copy_(0, kept, x[kept])


KINDS = [torch.float16, torch.float32, torch.float64]


@given(
    st.lists(st.tuples(st.integers(1, 12), st.sampled_from(KINDS)), min_size=1, max_size=5),
    st.integers(0, 99),
    st.tuples(st.floats(0, 1), st.floats(0, 1)),
    st.integers(1, 7),
    st.sampled_from([0, 3, 1 << 21]),
    st.booleans(),
)
def test_the_largest_of_a_model_are_kept_and_equal_ones_in_the_order_of_the_plan(
    shapes: list[tuple[int, torch.dtype]],
    seed: int,
    fractions: tuple[float, float],
    block: int,
    candidates: int,
    fine: bool,
) -> None:
    """Few magnitudes that all dtypes have, or many that only float64 has."""
    generator = torch.Generator().manual_seed(seed)

    def numbers(count: int, kind: torch.dtype) -> Tensor:
        if fine:
            return torch.randn(count, generator=generator, dtype=torch.float64).to(kind)
        return (torch.randint(-4, 5, (count,), generator=generator) / 2).to(kind)

    models = [{f"t{i}": numbers(*shape) for i, shape in enumerate(shapes)} for _ in range(2)]
    total = sum(count for count, _ in shapes)
    counts = [int(fraction * total) for fraction in fractions]
    found = trimmed(models, counts, block, candidates=candidates)
    for model, k, one in zip(models, counts, found, strict=True):
        assert torch.equal(one, sorted_out(in_a_row(model), k))


def test_the_order_of_the_blocks_does_not_matter() -> None:
    generator = torch.Generator().manual_seed(0)
    models = [{name: torch.randint(-9, 9, (30,), generator=generator).float() for name in "abc"}]
    [forwards] = trimmed(models, [41], block=4)
    [backwards] = trimmed(models, [41], block=4, order=lambda count: range(count)[::-1])
    assert torch.equal(forwards, backwards)
    assert torch.equal(forwards, sorted_out(in_a_row(models[0]), 41))


def test_a_cut_between_two_numbers_of_a_tensor_drops_the_lower_one() -> None:
    """The 3rd largest is 1 + 2^-40, which float32 would round to 1."""
    fine = torch.tensor([2.0, 1 + 2**-40], dtype=torch.float64)
    models = [{"a": torch.tensor([1.0, 3.0]), "b": fine}]
    [one] = trimmed(models, [3], block=4)
    assert one.tolist() == [0, 3, 2, 1 + 2**-40]
    [one] = trimmed(models, [4], block=4)
    assert one.tolist() == [1, 3, 2, 1 + 2**-40]


def test_nothing_of_a_model_can_be_kept_and_said_in_json() -> None:
    models = [{"a": torch.tensor([1.0, -3e38]), "b": torch.tensor([65504.0], dtype=torch.float16)}]
    [one] = trimmed(models, [0], block=4)
    assert one.tolist() == [0, 0, 0]


# ---- groups ------------------------------------------------------------------------------------------------


class _Group:
    """As much of a group as is asked for here."""

    def __init__(self, models: Sequence[int], count: int) -> None:
        self.models = models
        self.count = count
        self.blocks = -(-count // 4)


def test_a_model_takes_part_wherever_it_is_an_input() -> None:
    """Model 5 is twice an input of the first group, and not one of the last."""
    groups: Any = [_Group([5, 7, 5], 6), _Group([7, 5], 1), _Group([7], 8)]
    assert inputs_by_model(groups) == {
        5: [(0, 0, 6, 2), (0, 2, 6, 2), (1, 1, 1, 1)],
        7: [(0, 1, 6, 2), (1, 0, 1, 1), (2, 0, 8, 2)],
    }


def test_groups_are_made_when_they_are_taken() -> None:
    made: list[int] = []

    def make(index: int) -> Any:
        made.append(index)
        return index

    groups: Any = Groups(4, make)
    assert len(groups) == 4
    assert made == []
    assert groups[2] == 2
    assert list(groups) == [0, 1, 2, 3]
    assert groups[1:3] == [1, 2]
    assert groups[-1] == 3
    assert made == [2, 0, 1, 2, 3, 1, 2, 3]
    with pytest.raises(IndexError):
        groups[4]
