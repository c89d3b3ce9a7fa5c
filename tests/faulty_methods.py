"""Methods that break one rule of the testing kit each, and what they are made of; read `method`, then the rest."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from mergecore import Block, Field, MergeError, MergeMethod, Params, PerModel, TensorGroup
from mergecore.testing.findings import survey
from mergecore.testing.methods.cases import MethodCase
from mergecore.testing.methods.checks import METHOD
from mergecore.types import Merged, Step


class Nothing(Params):
    """No parameters."""


class Some(Params):
    """A number."""

    t: float = Field(default=0.5, ge=0, le=1, description="how far")


class Weights(Params):
    """Weights without a default."""

    weight: PerModel[float] = Field(description="weight")
    mode: int = Field(default=1, gt=0, description="how")


Made = Callable[[TensorGroup, Any], Merged]


def mean(group: TensorGroup, params: Any) -> Merged:
    """The mean."""
    return group.map(lambda block: block.x.mean(0))


def method(merge: Made = mean, **facts: Any) -> MergeMethod[Any]:
    facts = {"params": Nothing, "summary": "something", **facts}
    return MergeMethod(name="odd", merge=merge, **facts)


def failed(odd: MergeMethod[Any], params: Params | None = None, *also: str) -> dict[str, str]:
    """What is found, by property; other processes are asked only where that is said, as they take their time."""
    without = {"process"} - set(also)
    findings = survey("the method", METHOD, MethodCase.of(odd, params, None), without)
    return {one.property: one.text for one in findings if one.outcome == "failed"}


def scaled(group: TensorGroup, params: Some) -> Merged:
    """The mean, times a number."""
    return group.map(lambda block: block.x.mean(0) * params.t)


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
    return method(scaled, params=Silent)


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

    return method(merge, params=Some)


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

    return method(merge, params=Some)


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
    return method(of_blocks(lambda block: block.x.mean(0) + block.x[0]), keeps=("order",))


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
