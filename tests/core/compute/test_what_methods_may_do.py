"""What a method must not do does no harm, or is refused; the testing kit finds it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import write_llama
from torch import Tensor

import mergecore
from mergecore import MergeMethod, Params, PerModel, PluginError, Registry, TensorGroup
from mergecore.testing import check_method, run_method
from mergecore.types import Block, Merged


class NoParams(Params):
    """None of these methods has any."""


def spoils_base(group: TensorGroup, params: NoParams) -> Merged:
    def block(block: Block) -> Tensor:
        assert block.base is not None
        block.base.zero_()
        return block.x.mean(0)

    return group.map(block)


def reads_whole(group: TensorGroup, params: NoParams) -> Merged:
    return group.x.mean(0)


def method(merge: Any, **facts: Any) -> MergeMethod[Any]:
    return MergeMethod(name="odd", merge=merge, params=NoParams, summary="something odd", **facts)


def test_what_is_written_into_the_base_of_a_block_changes_no_result() -> None:
    # 5 is the model, 2 the base: the difference of 3 and the base make 5 again
    merged = run_method(
        method(spoils_base, space="delta"), NoParams(), [torch.full((4,), 5.0)], torch.full((4,), 2.0)
    )
    assert merged.tolist() == [5.0] * 4


def test_a_merge_by_a_method_that_reads_whole_tensors_unsaid_is_refused(tmp_path: Path) -> None:
    registry = Registry.discover().with_methods(method(reads_whole))
    config = {"merge_method": "odd", "models": [{"model": write_llama(tmp_path / name, 1)} for name in "ab"]}

    with pytest.raises(
        PluginError, match=r"reads `x`, all inputs at once, and does not say needs_whole_tensors=True"
    ) as caught:
        mergecore.merge(config, tmp_path / "out", registry=registry)

    assert caught.value.code == "E605"
    assert not (tmp_path / "out").exists()


def test_the_testing_kit_finds_both() -> None:
    with pytest.raises(AssertionError, match=r"writes into `block\.base`"):
        check_method(method(spoils_base, space="delta"), NoParams())
    with pytest.raises(AssertionError, match="reads `x`: say needs_whole_tensors=True"):
        check_method(method(reads_whole), NoParams())
    check_method(method(reads_whole, needs_whole_tensors=True), NoParams())


def unseeded(group: TensorGroup, params: NoParams) -> Merged:
    return group.map(lambda block: block.x[0] * torch.rand(()))


def half(group: TensorGroup, params: NoParams) -> Merged:
    return group.map(lambda block: block.x[0].half())


def test_random_numbers_that_no_seed_decides_are_found() -> None:
    with pytest.raises(
        AssertionError, match=r"another result each time .*; take random numbers from `block\.uniform`"
    ):
        check_method(method(unseeded), NoParams())


def test_a_result_of_16_bits_is_refused() -> None:
    with pytest.raises(
        PluginError, match=r"\[4\] of float16 for a block of \[4\] numbers of float32 or float64"
    ):
        run_method(method(half), NoParams(), [torch.ones(4)])


class Weights(Params):
    weight: PerModel[float] = (0.25,)


def weighted(group: TensorGroup, params: Weights) -> Merged:
    return group.map(lambda block: sum(w * x for w, x in zip(params.weight, block.x, strict=True)))


def test_a_default_of_one_value_counts_for_each_model_as_in_merges() -> None:
    summed = MergeMethod(name="odd", merge=weighted, params=Weights)
    # a quarter of 4, 8 and 12
    assert run_method(summed, Weights(), [torch.tensor([x]) for x in (4.0, 8.0, 12.0)]).tolist() == [6.0]


def test_an_empty_tensor_is_not_handed_to_the_method() -> None:
    assert run_method(method(reads_whole), NoParams(), [torch.ones(0, 3)] * 2).shape == (0, 3)
