"""Each property of merge methods is broken by a method that keeps all others, and is named.

Where a fault cannot be made alone, the other properties that it breaks as well are named too.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from mergecore import Block, Field, MergeError, MergeMethod, Params, PerModel, TensorGroup
from mergecore.testing import check_method
from mergecore.testing.findings import survey
from mergecore.testing.methods.cases import MethodCase
from mergecore.testing.methods.checks import METHOD
from mergecore.types import Merged, Step


class Some(Params):
    """What the methods of these tests take."""

    t: float = Field(default=0.5, ge=0, le=1, description="how far")


Made = Callable[[TensorGroup, Any], Merged]


def mean(group: TensorGroup, params: Some) -> Merged:
    """The mean."""
    return group.map(lambda block: block.x.mean(0))


def method(merge: Made = mean, **facts: Any) -> MergeMethod[Any]:
    facts = {"params": Some, "summary": "something", **facts}
    return MergeMethod(name="odd", merge=merge, **facts)


def failed(odd: MergeMethod[Any], params: Params | None = None) -> dict[str, str]:
    findings = survey("the method", METHOD, MethodCase.of(odd, params, None))
    return {one.property: one.text for one in findings if one.outcome == "failed"}


def of_blocks(function: Callable[[Block], Tensor]) -> Made:
    def merge(group: TensorGroup, params: Any) -> Merged:
        """A function of a block."""
        return group.map(function)

    return merge


# ---- what is wrong -----------------------------------------------------------------------------------------


def undescribed() -> MergeMethod[Any]:
    class Silent(Params):
        t: float = 0.5

    Silent.__qualname__ = "Silent"
    globals()["Silent"] = Silent
    return method(params=Silent)


def local_params() -> MergeMethod[Any]:
    class Local(Params):
        """Cannot be found again by another process."""

    return method(params=Local)


def not_finite_for_one_shape() -> MergeMethod[Any]:
    return method(of_blocks(lambda block: block.x.mean(0) / (1 if block.x[0].numel() != 7 else 0)))


def refuses_everything() -> MergeMethod[Any]:
    def refuse(group: TensorGroup, params: Some) -> Merged:
        raise MergeError("E402", "no")

    return method(refuse)


def divides_by_a_norm() -> MergeMethod[Any]:
    def merge(group: TensorGroup, params: Some) -> Merged:
        norm = group.reduce(lambda block: (block.x[0].double() ** 2).sum()).sqrt()
        return group.map(lambda block: block.x[0] / norm.to(block.x.dtype))

    return method(merge)


def overflows() -> MergeMethod[Any]:
    return method(of_blocks(lambda block: (block.x**9).mean(0)))


def breaks_at_the_end_of_a_range() -> MergeMethod[Any]:
    def merge(group: TensorGroup, params: Some) -> Merged:
        return group.map(lambda block: block.x.mean(0) / (1 - params.t))

    return method(merge)


def random() -> MergeMethod[Any]:
    return method(of_blocks(lambda block: block.x.mean(0) + torch.rand(block.x.shape[1:]).to(block.x.dtype)))


def depends_on_order() -> MergeMethod[Any]:
    def merge(group: TensorGroup, params: Some) -> Merged:
        seen: list[int] = []

        def block(block: Block) -> Tensor:
            seen.append(block.index)
            return block.x.mean(0) + (0.5 if len(seen) == 1 and block.index else 0)

        return group.map(block)

    return method(merge)


def depends_on_blocks() -> MergeMethod[Any]:
    return method(of_blocks(lambda block: block.x.mean(0) - block.x.mean()))


def shares_memory() -> MergeMethod[Any]:
    def merge(group: TensorGroup, params: Some) -> Merged:
        shared = torch.zeros(group.count, dtype=group.dtype)

        def block(block: Block) -> Tensor:
            room = shared[: block.x[0].numel()]
            for row in block.x:
                room += row.reshape(-1)
            found = room.view(block.x.shape[1:]).clone()
            room.zero_()
            return found

        return group.map(block)

    return method(merge, extra_memory=lambda step: (step.inputs[0].tensor.count * 4, 0))


def computes_in_float32() -> MergeMethod[Any]:
    return method(of_blocks(lambda block: block.x.float().mean(0).to(block.x.dtype)))


def writes_to_models() -> MergeMethod[Any]:
    def merge(group: TensorGroup, params: Some) -> Merged:
        for one in getattr(group._inputs, "_flat", ()):  # type: ignore[attr-defined]
            one.clamp_(-1, 1)
        return group.map(lambda block: block.x.clamp(-1, 1).mean(0))

    return method(merge)


def writes_to_the_base() -> MergeMethod[Any]:
    def block(block: Block) -> Tensor:
        assert block.base is not None
        block.base.add_(1)
        return block.x.mean(0)

    return method(of_blocks(block), space="delta", base="required")


def keeps_parameters() -> MergeMethod[Any]:
    first: list[float] = []

    def merge(group: TensorGroup, params: Some) -> Merged:
        first.append(params.t)
        t = first[-2] if len(first) > 1 else params.t
        return group.map(lambda block: block.x.mean(0) * t)

    return method(merge)


def reads_whole_tensors() -> MergeMethod[Any]:
    def merge(group: TensorGroup, params: Some) -> Merged:
        return group.x.mean(0)

    return method(merge, extra_memory=lambda step: (8 * 4 * step.inputs[0].tensor.count, 0))


def cannot_be_made_later() -> MergeMethod[Any]:
    def merge(group: TensorGroup, params: Some) -> Merged:
        open_ = [1.0]
        made = group.map(lambda block: block.x.mean(0) * open_[0])
        open_[0] = 2.0
        return made

    return method(merge, result_by="map")


def moves_the_base() -> MergeMethod[Any]:
    return method(of_blocks(lambda block: block.x.mean(0) + 1), space="delta", base="required")


def keeps_no_equal_tensors() -> MergeMethod[Any]:
    return method(of_blocks(lambda block: block.x.mean(0) * 1.01), keeps=("equal",))


def minds_the_order_of_models() -> MergeMethod[Any]:
    return method(of_blocks(lambda block: block.x[0]), keeps=("order",))


def keeps_too_much() -> MergeMethod[Any]:
    def merge(group: TensorGroup, params: Some) -> Merged:
        kept = []
        group.visit(lambda block: kept.append(block.x.clone()))
        return group.map(lambda block: block.x.mean(0))

    return method(merge)


def says_too_little_memory() -> MergeMethod[Any]:
    def half(step: Step) -> tuple[int, int]:
        return step.inputs[0].tensor.count * 4, 0

    def merge(group: TensorGroup, params: Some) -> Merged:
        kept = []
        group.visit(lambda block: kept.append(block.x.clone()))
        return group.map(lambda block: block.x.mean(0))

    return method(merge, extra_memory=half)


def factors_of_something_else() -> MergeMethod[Any]:
    def merge_factors(group: Any, params: Any) -> tuple[Tensor, Tensor]:
        first, second = group.factors[0]
        return 2 * first, second

    return method(space="delta", base="required", merge_factors=merge_factors)


def is_another_one_in_a_layer() -> MergeMethod[Any]:
    def merge(group: TensorGroup, params: Some) -> Merged:
        factor = 1.0 if group.layer is None else 2.0
        return group.map(lambda block: block.x.mean(0) * factor)

    return method(merge)


MUTANTS: list[tuple[Callable[[], MergeMethod[Any]], str, str]] = [
    (undescribed, "described", "nothing says what its parameter 't' means: Field(description=…)"),
    (local_params, "pickle", "define their class at the top of a module"),
    (not_finite_for_one_shape, "merges", "not finite for shape [7]"),
    (refuses_everything, "merges", "it refuses ordinary numbers"),
    (divides_by_a_norm, "edges", "not finite for tensors of zeros"),
    (overflows, "edges", "not finite for large numbers, up to 65504"),
    (breaks_at_the_end_of_a_range, "parameters", "with the parameters t=1.0"),
    (random, "same", "another result each time for shape []"),
    (depends_on_order, "order", "the order of blocks matters for shape [13, 11]"),
    (depends_on_blocks, "blocks", "depends on how shape [31, 17] is cut into blocks"),
    (shares_memory, "threads", "several threads make another result for shape [12, 10]"),
    (computes_in_float32, "float64", "float64 is computed in float32"),
    (writes_to_models, "inputs", "it writes into the tensors of the models"),
    (writes_to_the_base, "inputs", "writes into `block.base`"),
    (keeps_parameters, "gradients", "depends on the parameters of the tensor before"),
    (reads_whole_tensors, "whole", "say needs_whole_tensors=True"),
    (cannot_be_made_later, "later", "where it is made later, from the end to the beginning"),
    (moves_the_base, "base", "do not give the base"),
    (keeps_no_equal_tensors, "equal", "do not say keeps=('equal',)"),
    (minds_the_order_of_models, "models", "models in the order [3, 2, 1] give another result"),
    (keeps_too_much, "memory", "keep less from block to block, or say it by `extra_memory`"),
    (says_too_little_memory, "memory", "keep less from block to block, or say it by `extra_memory`"),
    (is_another_one_in_a_layer, "merge", "is not what the method makes of the same tensors in memory"),
    (factors_of_something_else, "factors", "its factors are those of another result"),
]
AS_WELL = {
    "random": {"order", "blocks", "threads", "dtypes", "gradients", "merge"},
    "divides_by_a_norm": {"parameters"},
    "reads_whole_tensors": {"merge"},
    "depends_on_order": {"threads"},
}
"""What a fault breaks beside what it is about."""


def test_a_method_that_keeps_everything_passes() -> None:
    assert failed(method()) == {}


@pytest.mark.parametrize(("mutant", "name", "text"), MUTANTS, ids=[one.__name__ for one, *_ in MUTANTS])
def test_a_fault_is_found_and_named(mutant: Callable[[], MergeMethod[Any]], name: str, text: str) -> None:
    found = failed(mutant())
    assert text in found.get(name, ""), found
    assert set(found) <= {name} | AS_WELL.get(mutant.__name__, set())
    if name != "gradients":  # what was merged before counts for it
        with pytest.raises(AssertionError, match=r"^merge method 'odd': "):
            check_method(mutant())


def test_every_property_of_methods_is_broken_by_some_fault() -> None:
    assert {name for _, name, _ in MUTANTS} >= {one.name for one in METHOD} - BROKEN_BELOW


# ---- what cannot be broken by a function alone ---------------------------------------------------------------

BROKEN_BELOW = {"class", "dtypes"}


def test_parameters_of_another_kind_are_found() -> None:
    from pydantic import BaseModel

    class Other(BaseModel):
        t: float = 0.5

    found = failed(method(params=Other), Some())
    assert "`params` is no class of `Params`" in found["class"]


class Weights(Params):
    """Weights without a default."""

    weight: PerModel[float] = Field(description="weight")
    mode: int = Field(default=1, gt=0, description="how")


def test_parameters_without_a_default_get_plain_values() -> None:
    def weighted(group: TensorGroup, params: Weights) -> Merged:
        """The weighted sum."""
        return group.map(lambda block: sum(w * x for w, x in zip(params.weight, block.x, strict=True)))

    assert MethodCase.of(method(weighted, params=Weights), None, 2).params == Weights(weight=(0.5, 0.5))
    check_method(method(weighted, params=Weights, keeps=("order",)))


def test_parameters_that_nothing_fits_are_asked_for() -> None:
    def refuse(params: Params, n: int) -> None:
        raise MergeError("E105", "never")

    with pytest.raises(
        ValueError, match="no parameters of 'odd' are found that it accepts; give some by `params`"
    ):
        check_method(method(check_params=refuse))


def test_a_property_can_be_left_out_by_its_name() -> None:
    check_method(computes_in_float32(), without=("float64",))
    with pytest.raises(ValueError, match=r"no property 'flaot64' to leave out; did you mean 'float64'\?"):
        check_method(method(), without=("flaot64",))


def test_an_exception_of_a_method_is_told_with_its_case() -> None:
    def fail(group: TensorGroup, params: Some) -> Merged:
        return group.map(lambda block: block.x[9])

    with pytest.raises(AssertionError, match=r"for shape \[\] it raises IndexError: .*; raise a MergeError"):
        check_method(method(fail))


def test_a_result_of_another_dtype_is_told() -> None:
    with pytest.raises(AssertionError, match=r"for shape \[\], it returned \[1\] of float16 for a block"):
        check_method(method(of_blocks(lambda block: block.x[0].half())))


def test_numbers_are_what_they_are_in_every_format() -> None:
    seen = itertools.count()

    def merge(group: TensorGroup, params: Some) -> Merged:
        number = next(seen)
        return group.map(lambda block: block.x.mean(0) * (1 + number % 2))

    assert "give another result than the same numbers in" in failed(method(merge))["dtypes"]
