"""Merge methods: how n tensors are made into one, and what that needs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Literal, TypeAlias

from mergecore.files.strict_json import Json
from mergecore.types.groups import Blocks, FactorGroup, TensorGroup
from mergecore.types.params import P

if TYPE_CHECKING:
    import torch

    from mergecore.types.steps import Step

Merged: TypeAlias = "torch.Tensor | tuple[torch.Tensor, ...] | Blocks"


@dataclass(frozen=True, kw_only=True)
class MergeMethod(Generic[P]):
    """A way to make n tensors into one: a pure function, and what it needs.

    name: what `merge_method` calls it.
    merge: makes the result for one tensor from its group and its parameters.
    params: its parameters; a config gives them under `parameters`.
    paper: where it was published, such as an arXiv number or an address.
    formula: what it computes, in LaTeX, for its page.
    example: a config that uses it, for its page.
    space: "delta" hands the function `X_i - base` and adds the base back; "weight" hands it the tensors; "apart"
        hands it the tensors as they are, the base in `block.base` where there is one, and adds nothing.
    base: whether `base_model` is needed.  "required" in weight space makes the base input 0; "unused" lets
        it take part only where it is listed as a model.
    models: the least and the largest number of models beside the base (None: any number).
    summary: what it does, in one line of at most 59 characters; else the first line of its docstring.
    family: the heading under which it is listed.
    reproducible: "bitwise" on any machine, or only on the "same-machine".
    input_passes: how often the inputs are read, for estimates.
    result_by: "map" when the result of a tensor is always one `group.map` (without `rows`), whose function may be
        called at any later time, in any order and again; "rows" when it may be one with `rows`.  Such a tensor can be
        computed while it is read, in place of being written.  Empty for every other way.
    keeps: what `mergecore.testing.check_method` checks beside what every method keeps: "equal", that equal tensors come
        out as they are, to the last bit; "order", that models may be listed in any order, their parameters with them.
    needs_whole_tensors: the function uses `group.x`, so whole tensors are held in memory.
    check_params: checks the parameters of one tensor while planning, beyond their types; it gets the parameters
        and the number of inputs, and raises a `MergecoreError`.
    check_plan: checks all tensors together; it gets their steps and the names of `Plan.models`.
    prepare: what takes all tensors before the first is merged, such as a threshold for the whole model.  It
        gets their groups in the order of the plan, each made anew whenever it is taken, and the parameters of
        each.  What it returns is `group.state` from then on and stands in the manifest, so it is small and
        plain values; None when these parameters need nothing, and then it reads nothing.
    extra_memory: bytes that it keeps for a step beside its blocks: once, and again for each worker.
    merge_factors: the same for inputs that are products of two factors, such as adapters, whose base is 0: the
        factors (m, k) and (k, n) of the result, k at most the sum of the ranks of the inputs.  None where the
        result has no such rank.
    version: tells one method from another of the same name, where the version of its package does not; a result
        that another version made does not count as made.
    """

    name: str
    merge: Callable[[TensorGroup, P], Merged]
    params: type[P]
    space: Literal["weight", "delta", "apart"] = "weight"
    base: Literal["required", "optional", "unused"] = "unused"
    models: tuple[int, int | None] = (1, None)
    summary: str = ""
    family: str = ""
    paper: str | None = None
    formula: str = ""
    example: str = ""
    reproducible: Literal["bitwise", "same-machine"] = "bitwise"
    input_passes: int = 1
    result_by: Literal["", "map", "rows"] = ""
    keeps: tuple[Literal["equal", "order"], ...] = ()
    needs_whole_tensors: bool = False
    check_params: Callable[[P, int], None] | None = None
    check_plan: Callable[[Sequence[Step], Sequence[str]], None] | None = None
    prepare: Callable[[Sequence[TensorGroup], Sequence[P]], Json] | None = None
    extra_memory: Callable[[Step], tuple[int, int]] | None = None
    merge_factors: Callable[[FactorGroup, P], tuple[torch.Tensor, torch.Tensor]] | None = None
    version: str = ""

    @property
    def base_apart(self) -> bool:
        """Whether a base is none of the inputs."""
        return self.space != "weight"

    @property
    def base_alone(self) -> bool:
        """Whether the base may stand alone: with no model beside it, the result is the base."""
        return self.base_apart and self.models[0] == 1
