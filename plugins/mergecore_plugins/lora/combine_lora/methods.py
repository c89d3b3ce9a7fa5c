"""What makes the tensors of an adapter out of those of others; the arithmetic is in `numbers`, imported when needed.

Read `METHODS`.  Factors are merged without a whole matrix where the merge method can do that; else the changes are,
block by block, and what comes of it is factored.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from pydantic import model_serializer

from mergecore import Field, MergeMethod, Params
from mergecore.types import Json, Merged, Step
from mergecore_plugins.lora.making.kinds import FactorKind, bytes_of

if TYPE_CHECKING:
    from torch import Tensor

    from mergecore import TensorGroup
    from mergecore.types import FactorGroup

    Method: TypeAlias = MergeMethod[Any]
else:  # a value as it is, which pydantic need not look into
    Method = Any


class CombinedParams(Params):
    """How a change is merged, and then factored."""

    name: str
    """Of the weight that is changed."""
    kind: FactorKind
    shape: tuple[int, ...]
    rank: int = Field(ge=1)
    experts: int = 1
    randomised: bool = False
    method: Method
    params: Params
    """Those of the method."""
    inputs: int = 0
    scales: tuple[tuple[int, float], ...] = ()
    """Of each pair of factors which input it is, and what it is multiplied by."""

    @model_serializer
    def _shown(self) -> dict[str, Any]:
        return {"method": self.method.name, **self.params.model_dump(by_alias=True), "rank": self.rank}

    @property
    def matrix(self) -> tuple[int, int]:
        """Rows and columns of the change, of one expert."""
        return matrix_of(self.kind, self.shape, self.experts)


def matrix_of(kind: FactorKind, shape: tuple[int, ...], experts: int) -> tuple[int, int]:
    """Rows and columns of a change of that shape, of one expert."""
    one = shape[1:] if kind == "experts" and experts > 1 else shape
    return one[0], math.prod(one[1:])


OF_CHANGES: Mapping[tuple[Literal["delta", "apart"], bool], str] = {
    ("delta", False): "changes",
    ("delta", True): "whole_changes",
    ("apart", False): "changes_apart",
    ("apart", True): "whole_changes_apart",
}
"""The methods that run a merge method, by its space and by whether it needs whole tensors."""


def methods() -> tuple[MergeMethod[Any], ...]:
    """The methods of the recipe."""
    return (
        MergeMethod(
            name="factors",
            merge=_of_factors,
            params=CombinedParams,
            formula="the factors of the merged change, made of those of the inputs",
            reproducible="same-machine",
            extra_memory=_memory_of_factors,
        ),
        *(
            MergeMethod(
                name=name,
                merge=_of_changes,
                params=CombinedParams,
                space=space,
                base="optional",
                formula="the singular vectors of the merged change, each times the root of its singular value",
                reproducible="same-machine",
                needs_whole_tensors=whole,
                prepare=_prepare,
                extra_memory=_memory_of_changes,
            )
            for (space, whole), name in OF_CHANGES.items()
        ),
        MergeMethod(name="same", merge=_same, params=Params, formula="what all inputs are"),
    )


def _of_factors(group: TensorGroup, params: CombinedParams) -> Merged:
    from mergecore_plugins.lora.combine_lora.numbers.products import of_factors

    return of_factors(group, params)


def _of_changes(group: TensorGroup, params: CombinedParams) -> Merged:
    from mergecore_plugins.lora.combine_lora.numbers.products import of_changes

    return of_changes(group, params)


def _prepare(groups: Sequence[TensorGroup], params: Sequence[CombinedParams]) -> Json:
    """What the merge method takes of all changes before the first is merged."""
    if not params or params[0].method.prepare is None:
        return None
    from mergecore_plugins.lora.combine_lora.numbers.collecting import Groups

    return params[0].method.prepare(Groups(groups, params), [one.params for one in params])


def _same(group: TensorGroup, params: Params) -> Merged:
    from mergecore_plugins.lora.combine_lora.numbers.products import same

    return same(group)


def _memory_of_factors(step: Step) -> tuple[int, int]:
    """Bytes of all factors of a step and what they are decomposed to, each in float64."""
    read = sum(math.prod(one.shape) for one in step.matrices)
    return 0, 8 * (6 * read + 2 * sum(math.prod(one.shape) for one in step.outputs))


def _memory_of_changes(step: Step) -> tuple[int, int]:
    """Bytes of the merged change and of its decomposition, and what the merge method keeps."""
    params = step.params
    assert isinstance(params, CombinedParams)
    own = (
        params.method.extra_memory(replace(step, params=params.params))
        if params.method.extra_memory
        else (0, 0)
    )
    size = bytes_of(params.matrix, params.rank, randomised=params.randomised)
    made = 8 * 2 * sum(math.prod(one.shape) for one in step.outputs)
    return own[0], own[1] + 8 * math.prod(params.shape) + size + made


def _first(group: FactorGroup, params: Params) -> tuple[Tensor, Tensor]:
    return group.factors[0]


def _never(group: TensorGroup, params: Params) -> Merged:
    raise AssertionError("its factors are copied")


COPIED: MergeMethod[Any] = MergeMethod(name="copied", merge=_never, params=Params, merge_factors=_first)
"""Stands for the merge method where the change of one adapter is taken as it is."""
