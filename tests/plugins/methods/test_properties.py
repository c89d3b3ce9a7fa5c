"""What every installed method keeps for any parameters it accepts and any small tensors; new ones are found.

Parameters are drawn from what the method declares, numbers from those that are equal, cancel, vanish or are
large, so that cuts fall among equals and denominators are 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from tiny import registry
from torch import Tensor

from mergecore import MergecoreError, MergeError, MergeMethod, Params
from mergecore.compute import group
from mergecore.config.parameters.declared import Parameter, parameters_of
from mergecore.testing import run_method

METHODS: dict[str, MergeMethod[Any]] = {method.name: method for method in registry().all(MergeMethod)}
ROLES = {"slerp", "nearswap", "arcee_fusion"}
"""The base and the other model are not alike."""
ABSOLUTE = {"arcee_fusion", "nearswap", "ram", "ramplus_tl"}
"""What counts as a large or a small change is said in the units of the weights."""
RANDOM = {"dare_linear", "dare_ties", "della", "della_linear", "knots", "core_space"}
"""What is dropped depends on the place of a model."""
ORDERED = {"average"}
"""Models stand in the order of training."""

few = settings(max_examples=20)  # for each method
every_method = pytest.mark.parametrize("name", METHODS)
elements = st.sampled_from([0.0, 1.0, -1.0, 0.5, -0.5, 2.0, 1e-20, -1e-30, 3e4, -3e4])
shapes = st.sampled_from([(), (1,), (5,), (2, 3), (3, 2), (2, 2, 2)])


@dataclass(frozen=True)
class Drawn:
    """Parameters as written, and tensors for them."""

    method: MergeMethod[Any]
    written: dict[str, Any]
    tensors: list[Tensor]
    base: Tensor | None

    @property
    def params(self) -> Params:
        made = self.method.params.model_validate(self.written)
        assert isinstance(made, Params)
        return made

    def merged(self, **options: Any) -> Tensor:
        return run_method(self.method, self.params, self.tensors, self.base, **options)


@st.composite
def cases(
    draw: st.DrawFn,
    name: str,
    numbers: st.SearchStrategy[float] = elements,
    with_base: st.SearchStrategy[bool] = st.booleans(),  # noqa: B008 - a strategy is a value
) -> Drawn:
    """A method with parameters that a plan would accept."""
    method = METHODS[name]
    least, most = method.models
    beside = draw(st.integers(least, min(3, most or 3)))
    n = beside + (method.base == "required" and method.space == "weight")
    based = draw(with_base) if method.base == "optional" else method.space == "delta"
    written = {}
    for word, parameter in parameters_of(method.params).items():
        if parameter.required or draw(st.booleans()):
            one = values(parameter)
            written[word] = draw(
                st.lists(one, min_size=n, max_size=n).map(tuple) if parameter.per_model else one
            )
    shape = draw(shapes)
    count = math.prod(shape)
    rows = draw(st.lists(st.lists(numbers, min_size=count, max_size=count), min_size=n + 1, max_size=n + 1))
    *tensors, base = (torch.tensor(row).view(shape) for row in rows)
    drawn = Drawn(method, written, tensors, base if based else None)
    assume(accepted(drawn, n))
    return drawn


def accepted(drawn: Drawn, n: int) -> bool:
    """Whether a plan would accept the parameters."""
    try:
        if drawn.method.check_params:
            drawn.method.check_params(drawn.params, n)
    except (ValidationError, MergecoreError):
        return False
    return True


def values(parameter: Parameter) -> st.SearchStrategy[Any]:
    """Values of a declared type."""
    return _of_schema(parameter.adapter.json_schema())


def _of_schema(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    if "anyOf" in schema:
        return st.one_of([_of_schema(one) for one in schema["anyOf"]])
    if "enum" in schema or "const" in schema:
        return st.sampled_from(schema.get("enum") or [schema["const"]])
    low = schema.get("minimum", schema.get("exclusiveMinimum", -2))
    high = schema.get("maximum", schema.get("exclusiveMaximum", 2))
    kinds: dict[str, st.SearchStrategy[Any]] = {
        "null": st.none(),
        "boolean": st.booleans(),
        "integer": st.integers(int(max(low, 0)), int(max(high, 3))),
        "number": st.floats(
            low,
            max(high, low),
            width=32,
            exclude_min="exclusiveMinimum" in schema,
            exclude_max="exclusiveMaximum" in schema,
            allow_subnormal=False,
        )
        | st.sampled_from([one for one in (0.0, 0.25, 0.5, 1.0) if low < one < high] or [(low + high) / 2]),
    }
    return kinds[schema["type"]]


@every_method
@few
@given(st.data())
def test_the_result_is_finite_and_does_not_depend_on_the_order_of_blocks(
    name: str, data: st.DataObject
) -> None:
    drawn = data.draw(cases(name))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(group, "BLOCK", data.draw(st.integers(1, 9)))
        try:
            merged = drawn.merged()
        except MergeError:
            return  # the method says why not
        assert merged.shape == drawn.tensors[0].shape
        assert torch.isfinite(merged).all(), merged
        assert drawn.merged(order=lambda count: range(count - 1, -1, -1)).equal(merged)


@pytest.mark.parametrize("name", [name for name, method in METHODS.items() if method.space == "delta"])
@few
@given(st.data())
def test_models_equal_to_the_base_give_exactly_the_base(name: str, data: st.DataObject) -> None:
    drawn = data.draw(cases(name, with_base=st.just(True)))
    assert drawn.base is not None
    same = Drawn(drawn.method, drawn.written, [drawn.base] * len(drawn.tensors), drawn.base)
    try:
        merged = same.merged()
    except MergeError:
        return
    assert merged.equal(drawn.base)


@pytest.mark.parametrize(
    "name", [name for name, method in METHODS.items() if method.space == "delta" and name not in ABSOLUTE]
)
@few
@given(st.data())
def test_task_vectors_twice_as_long_move_the_base_twice_as_far(name: str, data: st.DataObject) -> None:
    drawn = data.draw(cases(name, numbers=st.integers(-8, 8).map(float), with_base=st.just(True)))
    origin = torch.zeros_like(drawn.tensors[0])
    once, twice = (
        Drawn(drawn.method, drawn.written, [one * factor for one in drawn.tensors], origin)
        for factor in (1, 2)
    )
    try:
        merged = once.merged()
    except MergeError:
        return
    assert twice.merged().equal(merged * 2)


@pytest.mark.parametrize("name", [name for name in METHODS if name not in ROLES | RANDOM | ORDERED])
@few
@given(st.data())
def test_models_may_be_listed_in_any_order(name: str, data: st.DataObject) -> None:
    """Whole numbers sum up exactly, so no election hangs on the last digit; opposite tensors have no middle."""
    drawn = data.draw(cases(name, numbers=st.integers(-8 if name != "karcher" else 1, 8).map(float)))
    order = data.draw(st.permutations(range(len(drawn.tensors))))
    moved = Drawn(
        drawn.method,
        {word: reordered(value, order) for word, value in drawn.written.items()},
        [drawn.tensors[i] for i in order],
        drawn.base,
    )
    try:
        merged = drawn.merged()
    except MergeError:
        return
    assert moved.merged().allclose(merged, rtol=1e-4, atol=1e-4)


def reordered(value: Any, order: Sequence[int]) -> Any:
    return tuple(value[i] for i in order) if isinstance(value, tuple) else value
