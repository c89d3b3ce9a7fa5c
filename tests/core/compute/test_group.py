"""What a merge method sees of its inputs, and what becomes of what it returns.

Blocks hold 4 elements here, so that the numbers can be followed by hand.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import permutations
from typing import Any, Literal

import pytest
import torch
from torch import Tensor

from mergecore import Block, MergeError, MergeMethod, Params, PluginError, TensorGroup
from mergecore.compute import group
from mergecore.testing import run_method
from mergecore.types import Blocks

Merge = Callable[[TensorGroup], object]

TEN = torch.arange(10.0)


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group, "BLOCK", 4)


def method(merge: Merge, space: Literal["weight", "delta"] = "weight") -> MergeMethod[Any]:
    return MergeMethod(name="test", merge=lambda group, _: merge(group), params=Params, space=space)  # type: ignore[arg-type, return-value]  # wrong results are tested, too


def run(merge: Merge, *tensors: Tensor, base: Tensor | None = None, **options: Any) -> Tensor:
    space: Literal["weight", "delta"] = "delta" if base is not None else "weight"
    return run_method(method(merge, space), Params(), tensors, base, **options)


def look(see: Callable[[TensorGroup], object], *tensors: Tensor, **options: Any) -> Any:
    """What `see` finds in a group; the first input is the result."""
    seen: list[object] = []

    def merge(group: TensorGroup) -> Blocks:
        seen.append(see(group))
        return group.map(lambda block: block.x[0])

    run(merge, *tensors, **options)
    return seen[0]


def every_block(group: TensorGroup, rows: bool = False) -> list[Block]:
    blocks: list[Block] = []

    def keep(block: Block) -> Tensor:
        blocks.append(block)
        return torch.zeros(())

    group.reduce(keep, rows)
    return blocks


# ---- passes ------------------------------------------------------------------------------------------------


def test_map_makes_the_result_block_by_block() -> None:
    merged = run(lambda group: group.map(lambda block: block.x[0] + 10 * block.x[1]), TEN, TEN)
    assert merged.tolist() == [11 * i for i in range(10)]


def test_blocks_are_stretches_of_the_flat_tensor() -> None:
    blocks = look(every_block, TEN.view(5, 2))
    assert [(block.index, block.start, block.stop) for block in blocks] == [(0, 0, 4), (1, 4, 8), (2, 8, 10)]


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((5, 2), [(2, 2), (2, 2), (1, 2)]),  # two rows of two make four
        ((3, 3), [(1, 3), (1, 3), (1, 3)]),
        ((2, 9), [(1, 9), (1, 9)]),  # a row is never cut
        ((2, 2, 2), [(2, 2), (2, 2)]),  # rows run along the last axis
        ((9,), [(1, 9)]),  # a vector is one row
        ((), [(1, 1)]),
    ],
)
def test_blocks_of_rows_hold_whole_rows(shape: tuple[int, ...], expected: list[tuple[int, int]]) -> None:
    numbers = torch.arange(float(torch.Size(shape).numel())).view(shape)

    assert run(lambda group: group.map(lambda block: block.x[0] * 2, rows=True), numbers).equal(numbers * 2)
    blocks = look(lambda group: every_block(group, rows=True), numbers)
    assert [tuple(block.x.shape[1:]) for block in blocks] == expected


def test_reduce_adds_in_float64_in_the_order_of_the_blocks() -> None:
    """((1e16 + 1) - 1e16) + 1 is 1 in float64; every other order of these four may give 0 or 2."""
    parts = [1e16, 1.0, -1e16, 1.0]

    def measure(group: TensorGroup) -> float:
        return group.reduce(lambda block: torch.tensor(parts[block.index], dtype=torch.float64)).item()

    for order in permutations(range(4)):
        assert look(measure, torch.zeros(16), order=lambda _, order=order: order) == 1


def test_reduce_keeps_what_the_function_overwrites_later() -> None:
    scratch = torch.zeros(1)

    def measure(block: Block) -> Tensor:
        return scratch.copy_(block.x.sum())

    assert look(lambda group: group.reduce(measure), TEN).item() == 45


def test_results_do_not_depend_on_the_order_of_the_blocks() -> None:
    def merge(group: TensorGroup) -> Blocks:
        norm = group.gram().diagonal().sqrt()
        cut = group.kth_largest(1, 0.5)
        return group.map(lambda block: block.x[0] / norm[0] + cut.trim_(block.x[1], block.index))

    inputs = [torch.randn(5, 6, generator=torch.Generator().manual_seed(i)) for i in range(2)]
    found = {run(merge, *inputs, order=order).numpy().tobytes() for order in (range, _backwards, _shuffled)}
    assert len(found) == 1


def _backwards(count: int) -> Sequence[int]:
    return range(count - 1, -1, -1)


def _shuffled(count: int) -> Sequence[int]:
    return [*range(1, count, 2), *range(0, count, 2)]


def test_the_gram_matrix_is_summed_over_blocks() -> None:
    # 0² + … + 9² = 285, and the sum of 0 … 9 is 45
    assert look(lambda group: group.gram().tolist(), TEN, torch.ones(10)) == [[285, 45], [45, 10]]


def test_cuts_keep_the_largest_magnitudes_of_each_input() -> None:
    numbers = torch.tensor([3.0, -1.0, 2.0, 2.0, -5.0, 2.0])

    def merge(group: TensorGroup) -> Blocks:
        cuts = [group.kth_largest(0, 0.5), group.kth_largest(1, 0.34)]  # 3 of 6, and 2 of 6
        return group.map(
            lambda block: cuts[0].trim_(block.x[0], block.index) + 10 * cuts[1].trim_(block.x[1], block.index)
        )

    # 5, 3 and the first 2 are kept of the first, 9 and 8 of the second
    assert run(merge, numbers, torch.tensor([0.0, 1.0, 8.0, 2.0, 3.0, 9.0])).tolist() == [3, 0, 82, 0, -5, 90]


def test_an_input_can_have_several_cuts() -> None:
    cuts = look(lambda group: group.cuts_each([[2, 5], [], [10]]), TEN, TEN, TEN)
    assert [[cut.value for cut in row] for row in cuts] == [[8, 5], [], [0]]


def test_one_input_can_be_cut_alone() -> None:
    cut = look(lambda group: group.kth_largest(1, 0.2), TEN, TEN * 2)
    assert cut.value == 16  # 2 of 10: 18 and 16


def test_x_holds_all_inputs_whole() -> None:
    whole = look(lambda group: group.x, TEN.view(5, 2), TEN.view(5, 2) + 1)
    assert whole.tolist() == [TEN.view(5, 2).tolist(), (TEN.view(5, 2) + 1).tolist()]


def test_a_method_may_return_a_whole_tensor() -> None:
    assert run(lambda group: group.x.mean(0), TEN, TEN + 2).tolist() == (TEN + 1).tolist()


def test_whole_results_need_not_be_contiguous() -> None:
    square = TEN[:9].view(3, 3)
    assert run(lambda group: group.x[0].T, square).equal(square.T)


@pytest.mark.parametrize("rows", [False, True])
@pytest.mark.parametrize("shape", [(0,), (3, 0), (), (1,), (1, 1)])
def test_tensors_of_no_or_one_element_are_merged(shape: tuple[int, ...], rows: bool) -> None:
    merged = run(
        lambda group: group.map(lambda block: block.x.sum(0), rows), torch.ones(shape), torch.ones(shape)
    )
    assert merged.equal(torch.full(shape, 2.0))
    assert run(lambda group: group.x.sum(0), torch.ones(shape), torch.ones(shape)).equal(
        torch.full(shape, 2.0)
    )


# ---- spaces and dtypes -------------------------------------------------------------------------------------


def test_in_delta_space_blocks_hold_differences_and_the_base_is_added_back() -> None:
    base = torch.full((6,), 10.0)

    def merge(group: TensorGroup) -> Blocks:
        assert group.n == 2
        return group.map(lambda block: block.x[0] + block.x[1])

    assert run(merge, TEN[:6] + 10, TEN[:6] + 10, base=base).tolist() == [10, 12, 14, 16, 18, 20]


def test_in_delta_space_a_whole_result_is_a_difference_too() -> None:
    base = torch.full((6,), 10.0)
    assert run(lambda group: group.x[0] * 2, TEN[:6], base=base).tolist() == [-10, -8, -6, -4, -2, 0]


def test_a_block_shows_its_base_in_delta_space_only() -> None:
    rows = look(lambda group: every_block(group, rows=True), TEN[:6].view(3, 2), base=torch.ones(3, 2))
    assert [block.base.shape for block in rows] == [(2, 2), (1, 2)]
    assert look(every_block, TEN)[0].base is None


@pytest.mark.parametrize("wide", [0, 1, 2])
def test_one_input_in_float64_makes_all_arithmetic_float64(wide: int) -> None:
    inputs = [torch.ones(1, dtype=torch.float64 if i == wide else torch.float32) for i in range(3)]
    small = run(lambda group: group.map(lambda block: block.x[0] + 1e-12), *inputs)
    assert small.dtype == torch.float64
    assert small.item() == 1 + 1e-12  # 1 in float32
    assert look(lambda group: group.dtype, *inputs[:2], base=inputs[2]) == torch.float64


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_narrower_inputs_are_computed_with_in_float32(dtype: torch.dtype) -> None:
    assert look(lambda group: group.dtype, TEN.to(dtype)) == torch.float32
    assert run(lambda group: group.map(lambda block: block.x[0] / 3), torch.ones(1, dtype=dtype)).item() == (
        torch.tensor(1.0) / 3
    )


def test_a_method_may_overwrite_its_block() -> None:
    numbers = TEN.clone()
    assert run(lambda group: group.map(lambda block: block.x[0].zero_()), numbers).tolist() == [0] * 10
    assert numbers.equal(TEN)


# ---- random numbers ----------------------------------------------------------------------------------------


def draw(i: int = 0, rows: bool = False, **options: Any) -> list[float]:
    merged = run(lambda group: group.map(lambda block: block.uniform(i), rows), TEN.view(5, 2), **options)
    return [float(number) for number in merged.view(-1)]


def test_random_numbers_depend_on_the_position_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = draw()
    assert len(set(drawn)) == 10
    assert all(0 <= number < 1 for number in drawn)
    assert draw(rows=True) == drawn
    assert draw(order=_backwards) == drawn
    monkeypatch.setattr(group, "BLOCK", 3)
    assert draw() == drawn


def test_random_numbers_differ_by_seed_tensor_and_input() -> None:
    assert len({tuple(numbers) for numbers in (draw(), draw(seed=1), draw(name="other"), draw(1))}) == 4


def test_a_mask_is_true_where_the_uniform_numbers_are_below_its_probability() -> None:
    merged = run(
        lambda group: group.map(
            lambda block: (block.uniform(0, "p") < 0.5).eq(block.mask(0, 0.5, "p")).float()
        ),
        torch.zeros(40),
    )
    assert merged.tolist() == [1] * 40


# ---- wrong methods -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("merge", "text"),
    [
        (lambda group: None, "it returned nothing, not a tensor or what `map` returns"),
        (lambda group: 3, "it returned int, not a tensor or what `map` returns"),
        (lambda group: Blocks(3), "it returned blocks that `map` did not make"),
        (lambda group: group.x, r"it returned \[1, 5, 2\] of float32 for a tensor of \[5, 2\]"),
        (lambda group: group.x[0].long(), "int64 for a block of .* numbers of float32 or float64"),
        (lambda group: group.map(lambda block: None), "it returned nothing for a block, not a tensor"),
        (
            lambda group: group.map(lambda block: block.x),
            r"it returned \[1, 4\] of float32 for a block of \[4\] numbers of float32 or float64",
        ),
        (lambda group: group.map(lambda block: block.x[0].T, rows=True), "for a block of"),
        (lambda group: group.map(lambda block: block.x[0] > 0), r"\[4\] of bool"),
        (lambda group: group.map(lambda block: block.x[0].sum()), r"\[\] of float32"),
        (lambda group: group.reduce(lambda block: 1.0), "it returned float for a block, not a tensor"),
        (
            lambda group: (group.map(lambda block: block.x[0]), group.map(lambda block: block.x[0]))[1],
            "it makes its result twice",
        ),
        (
            lambda group: (group.map(lambda block: block.x[0]), group.x[0])[1],
            "it makes its result twice",
        ),
        (
            lambda group: group.map(lambda block: block.x[0] / group.gram()[0, 0]),
            "it begins a pass over its inputs within another one",
        ),
    ],
)
def test_a_method_that_returns_something_else_is_told_so(merge: Merge, text: str) -> None:
    with pytest.raises(PluginError, match=text) as caught:
        run(merge, TEN.view(5, 2))
    assert caught.value.code == "E605"


def test_errors_of_a_method_pass_through() -> None:
    def merge(group: TensorGroup) -> Blocks:
        return group.map(fail)

    def fail(block: Block) -> Tensor:
        raise MergeError("E404", "degenerate")

    with pytest.raises(MergeError, match="degenerate"):
        run(merge, TEN)


def test_after_an_error_in_a_pass_another_can_begin() -> None:
    def merge(group: TensorGroup) -> Blocks:
        with pytest.raises(ZeroDivisionError):
            group.reduce(lambda block: torch.tensor(1 // 0))
        return group.map(lambda block: block.x[0])

    assert run(merge, TEN).equal(TEN)
