"""For authors of merge methods: run a method on tensors in memory, and check that it keeps its contract."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import Any

import torch
from torch import Tensor

from mergecore.compute.block import StreamedBlock
from mergecore.compute.deferred import DeferredGroup
from mergecore.compute.group import StreamedGroup, merge_group
from mergecore.compute.scratch import Scratch
from mergecore.compute.topk.whole_model import Groups
from mergecore.errors import MergeError
from mergecore.types import Json, MergeMethod
from mergecore.types.params import Params, for_inputs
from mergecore.types.steps import BLOCK

__all__ = ["check_method", "run_method", "run_model"]


def run_method(
    method: MergeMethod[Any],
    params: Params,
    tensors: Sequence[Tensor],
    base: Tensor | None = None,
    *,
    name: str = "tensor",
    seed: int = 0,
    order: Callable[[int], Sequence[int]] = range,
) -> Tensor:
    """What `method` makes of `tensors`, before rounding: float64 if any of them is, else float32.

    In delta space, `tensors` are the models beside `base`; a method in weight space that needs the base
    takes it as the first of `tensors`.  A `PerModel` parameter of one value counts for all of them, and an empty
    tensor is not handed to the method, both as in a merge.  `order` gives the order in which n blocks are worked on.
    """
    models = [{name: one} for one in tensors]
    bases = None if base is None else {name: base}
    return run_model(method, params, models, bases, seed=seed, order=order)[name]


def run_model(
    method: MergeMethod[Any],
    params: Params,
    models: Sequence[Mapping[str, Tensor]],
    base: Mapping[str, Tensor] | None = None,
    *,
    seed: int = 0,
    order: Callable[[int], Sequence[int]] = range,
) -> dict[str, Tensor]:
    """As `run_method`, for all tensors of whole models by name; what the method prepares, it prepares of them."""
    return _run(StreamedGroup, method, params, models, base, seed, order)


def check_method(method: MergeMethod[Any], params: Params, n: int | None = None) -> None:
    """Check on random tensors of many shapes what every method must keep.

    The result has the shape of the inputs, is finite and the same on every run and in every order of the
    blocks, or the method refuses the numbers with a `MergeError`; whole tensors are read only by a method that
    says so, random numbers come from the block, the base is not written to, and the result can be made later where
    the method says so by `result_by`.  `n` is the number of tensors
    beside `base`.

    Raises:
        AssertionError: saying which of these does not hold, and for which shape.
    """
    n = n or _inputs(method)
    bases = (True, False) if method.base == "optional" else (method.space == "delta",)
    for shape, with_base in product(_SHAPES, bases):
        _check(method, params, _random(shape, n, with_base))


# ---- checks ------------------------------------------------------------------------------------------------

_SHAPES = ((), (1,), (7,), (5, 3), (1, 9), (9, 1), (3, 4, 5), (600, 700))


def _inputs(method: MergeMethod[Any]) -> int:
    """Three, or as near to it as the method allows; a base that it takes as its first input is one more."""
    least, most = method.models
    beside = max(least, min(3, most or 3))
    return beside + (method.base == "required" and method.space == "weight")


def _random(shape: Sequence[int], n: int, with_base: bool) -> tuple[list[Tensor], Tensor | None]:
    generator = torch.Generator().manual_seed(0)
    base = torch.randn(shape, generator=generator) if with_base else None
    return [torch.randn(shape, generator=generator) for _ in range(n)], base


def _check(method: MergeMethod[Any], params: Params, inputs: tuple[list[Tensor], Tensor | None]) -> None:
    tensors, base = inputs
    kind = _Watched
    models, bases = [{"tensor": one} for one in tensors], None if base is None else {"tensor": base}
    try:
        merged, again, backwards = (
            _run(kind, method, params, models, bases, 0, order)["tensor"]
            for order in (range, range, lambda count: range(count - 1, -1, -1))
        )
    except MergeError:
        return  # the method says itself that these numbers cannot be merged
    shape = list(tensors[0].shape)
    assert bool(torch.isfinite(merged).all()), f"{method.name}: not finite for shape {shape}"
    assert torch.equal(merged, again), (
        f"{method.name}: another result each time for shape {shape}; take random numbers from `block.uniform`"
    )
    assert torch.equal(merged, backwards), f"{method.name}: the order of blocks matters for shape {shape}"
    if method.result_by:
        later = _run(_Later, method, params, models, bases, 0, range)["tensor"]
        assert torch.equal(merged, later), (
            f"{method.name}: another result for shape {shape} where it is made later, from the end to the beginning; "
            "do not say result_by"
        )


class _Later(DeferredGroup):
    """A group whose result is made stretch by stretch, once the method has returned."""

    def make_all(self) -> None:
        """Make the result from the end to the beginning; blocks at the seams are made twice."""
        stretch = 3 * BLOCK // 2
        for start in reversed(range(0, self.count, stretch)):
            stop = min(start + stretch, self.count)
            self.make(start, stop, True, lambda first, numbers: self._sink.put(0, first, numbers))


class _Watched(StreamedGroup):
    """A group that finds what methods must not do."""

    @property
    def x(self) -> Tensor:
        if not self._whole:
            raise AssertionError(
                "the method reads `x`: say needs_whole_tensors=True, so that its memory is planned for"
            )
        return super().x

    def _completed(self, block: StreamedBlock, result: Tensor) -> Tensor:
        handed_out, original = vars(block).get("base"), block.original
        if handed_out is not None and original is not None and not torch.equal(handed_out, original):
            raise AssertionError(
                "the method writes into `block.base`, which is a copy: what it writes is lost"
            )
        return super()._completed(block, result)


# ---- runs --------------------------------------------------------------------------------------------------


def _run(
    kind: type[StreamedGroup],
    method: MergeMethod[Any],
    params: Params,
    models: Sequence[Mapping[str, Tensor]],
    base: Mapping[str, Tensor] | None,
    seed: int,
    order: Callable[[int], Sequence[int]],
) -> dict[str, Tensor]:
    params = for_inputs(params, len(models))
    made = {name: _memory([one[name] for one in (*models, *([base] if base else []))]) for name in models[0]}
    names = [name for name, one in made.items() if one.whole.numel()]  # merges copy what is empty

    def group(index: int, state: Json = None) -> StreamedGroup:
        name = names[index]
        everyone = [one[name] for one in (*models, *([base] if base else []))]
        return kind(
            name=name,
            shape=tuple(everyone[0].shape),
            n=len(models),
            inputs=_InMemory(everyone),
            sink=made[name],
            crew=_InOrder(order),
            scratch=Scratch(torch.device("cpu")),
            dtype=made[name].whole.dtype,
            delta=base is not None,
            seed=seed,
            index=index,
            models=range(len(models)),
            state=state,
            needs_whole_tensors=method.needs_whole_tensors
            or kind is StreamedGroup,  # only checks insist that it is said
        )

    state = method.prepare(Groups(len(names), group), [params] * len(names)) if method.prepare else None
    for index in range(len(names)):
        made_of = group(index, state)
        merge_group(method, made_of, params)
        if isinstance(made_of, _Later):
            made_of.make_all()
    return {name: one.whole for name, one in made.items()}


def _memory(everyone: Sequence[Tensor]) -> _Memory:
    """Room for what is made of tensors."""
    wide = any(one.dtype == torch.float64 for one in everyone)
    return _Memory(everyone[0].shape, torch.float64 if wide else torch.float32)


class _InMemory:
    def __init__(self, tensors: Sequence[Tensor]) -> None:
        self._flat = [one.reshape(-1) for one in tensors]

    def load(self, start: int, stop: int, rows: Sequence[Tensor], check: bool = True) -> None:
        for flat, row in zip(self._flat, rows, strict=True):
            row.copy_(flat[start:stop])

    def raise_faults(self) -> None:
        pass


class _Memory:
    def __init__(self, shape: torch.Size, dtype: torch.dtype) -> None:
        self.whole = torch.full(shape, float("nan"), dtype=dtype)

    def put(self, output: int, start: int, numbers: Tensor) -> None:
        self.whole.view(-1)[start : start + numbers.numel()] = numbers


class _InOrder:
    def __init__(self, order: Callable[[int], Sequence[int]]) -> None:
        self._order = order

    def for_each(self, count: int, work: Callable[[int], None]) -> None:
        for index in self._order(count):
            work(index)
