"""What a merge method says about itself, and whether it is so; read `PROMISES`."""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from mergecore.config.parameters.declared import describe_params
from mergecore.plugins.words import summary_of
from mergecore.testing.findings import NotCheckedError, Property, demand, demand_sizes, told
from mergecore.testing.methods.cases import LARGE, SHAPES, MethodCase, Tensors
from mergecore.testing.methods.running import Later, Manner
from mergecore.testing.methods.watching import Memory, Streamed
from mergecore.types import InMemory, OutputTensor, Step, TensorInfo, TensorInput
from mergecore.types.params import Params, for_inputs


def _is_described(case: MethodCase) -> None:
    method = case.method
    demand(
        summary_of(method).strip(),
        "nothing says what it does: say it by `summary`, or give its function or its module a docstring",
    )
    demand(
        len(method.summary) <= 59 and "\n" not in method.summary,
        f"its summary has {len(method.summary)} characters; one line of at most 59 is expected",
    )
    for row in describe_params(method.params):
        demand(row.help, f"nothing says what its parameter '{row.name}' means: Field(description=…)")


def _params_are_ours(case: MethodCase) -> None:
    declared: object = case.method.params
    demand(
        isinstance(declared, type) and issubclass(declared, Params),
        "`params` is no class of `Params`; subclass mergecore.Params, which refuses unknown names",
    )


def _params_travel(case: MethodCase) -> None:
    """Steps with their parameters are handed to other processes."""
    try:
        again = pickle.loads(pickle.dumps(case.params))  # noqa: S301 - what was pickled in this line
    except Exception as error:
        raise AssertionError(
            f"its parameters cannot be pickled, so no executor of several processes can run it: {told(error)}; "
            "define their class at the top of a module"
        ) from error
    demand(again == case.params, "its parameters are others once they were pickled")


def _streams(case: MethodCase) -> None:
    if case.method.needs_whole_tensors:
        raise NotCheckedError("it says that it needs whole tensors")
    for given in case.ordinary:
        case.tried(given, Manner(kind=Streamed, whole=False, block=64))


def _every_tensor(case: MethodCase) -> Iterator[tuple[Tensors, int | None]]:
    for shape in SHAPES:
        yield from ((given, None) for given in case.normal(shape))
    yield from ((given, 64) for given in case.ordinary)
    yield from ((given, None) for given in case.normal(LARGE))


def _can_be_made_later(case: MethodCase) -> None:
    if not case.method.result_by:
        raise NotCheckedError("it does not say `result_by`")
    for given, block in _every_tensor(case):
        wanted = case.tried(given, Manner(block=block))
        if wanted is None:
            continue
        found = case.tried(given, Manner(kind=Later, block=block))
        demand(
            found is not None and torch.equal(found, wanted),
            f"another result for {given.what} where it is made later, from the end to the beginning; "
            "do not say result_by",
        )


def _keeps_the_base(case: MethodCase) -> None:
    if case.method.space != "delta":
        raise NotCheckedError("it is not handed differences to a base")
    for given in case.ordinary:
        if given.base is None:
            continue
        same = given.like("models equal to the base", *[given.base] * len(given.everyone))
        merged = case.tried(same)
        demand(
            merged is None or torch.equal(merged, given.base),
            "models that are equal to the base do not give the base: where all differences are 0, return 0",
        )


def _keeps_equal_tensors(case: MethodCase) -> None:
    if "equal" not in case.method.keeps:
        raise NotCheckedError("it does not say that it keeps equal tensors")
    for other in _with_other_numbers_of_models(case):
        for given in [*other.ordinary, *(one.to(torch.float64) for one in other.ordinary)]:
            one = given.models[0]
            base = [given.base] if given.base is not None else []
            merged = other.tried(given.like("equal tensors", *[one] * other.n, *base))
            off = float("nan") if merged is None else float((merged - one).abs().max())
            demand(
                off == 0,
                f"{other.n} equal tensors do not come out as they are, but up to {off:.2g} off; "
                "do not say keeps=('equal',) of what is rounded",
            )


def _with_other_numbers_of_models(case: MethodCase) -> Iterator[MethodCase]:
    """The case, and others with more models where that many may be merged."""
    yield case
    most = case.method.models[1]
    for n in (2, 5, 7):
        if n != case.n and case.method.models[0] <= n <= (most or n):
            yield MethodCase.of(case.method, None, n)


def _takes_models_in_any_order(case: MethodCase) -> None:
    if "order" not in case.method.keeps:
        raise NotCheckedError("it does not say that the order of the models does not matter")
    if case.n < 2:
        raise NotCheckedError("it takes a single model")
    for given in case.ordinary:
        wide = given.to(torch.float64)
        wanted = case.tried(wide)
        for order in _orders(case.n):
            moved = Tensors(given.what, [wide.models[i] for i in order], wide.base)
            found = case.tried(moved, params=_reordered(for_inputs(case.params, case.n), order))
            demand(
                (found is None and wanted is None)
                or (found is not None and wanted is not None and _close(found, wanted)),
                f"the models in the order {[i + 1 for i in order]} give another result; do not say keeps=('order',)",
            )


def _close(one: Tensor, other: Tensor) -> bool:
    return torch.allclose(one, other, rtol=1e-9, atol=1e-9 * max(1e-30, float(other.abs().max())))


def _orders(n: int) -> list[list[int]]:
    first = list(range(n))
    return [first[::-1], first[1:] + first[:1]]


def _reordered(params: Params, order: Sequence[int]) -> Params:
    """The parameters of models that are listed in another order."""
    moved = {
        name: tuple(value[i] for i in order)
        for name, value in params
        if isinstance(value, tuple) and len(value) == len(order)
    }
    return params.model_copy(update=moved)


# ---- memory ------------------------------------------------------------------------------------------------

TEMPORARIES = 6
"""Blocks that a method may make beside its inputs, as plans reckon."""
MEMORY_BLOCK = 1 << 13
SLACK = 1 << 16


def _keeps_to_its_memory(case: MethodCase) -> None:
    shape = (256, 600)
    for given in case.normal(shape):
        said = _said(case, given)
        n = len(given.everyone)
        width = MEMORY_BLOCK * 4
        allowed = (n + 1 + TEMPORARIES + 2) * width + said + SLACK
        with Memory(given.everyone) as memory:
            case.tried(given, Manner(block=MEMORY_BLOCK))
        result = given.models[0].numel() * 4
        taken = memory.peak - result
        demand(
            taken <= allowed,
            f"it takes {taken} bytes for a tensor of {list(shape)} in blocks of {MEMORY_BLOCK}, "
            f"and {allowed} are planned for; keep less from block to block, or say it by `extra_memory`",
        )


def _said(case: MethodCase, given: Tensors) -> int:
    """The bytes that the method says it keeps, whole tensors included."""
    step = _step(case, given)
    kept = case.method.extra_memory(step) if case.method.extra_memory else (0, 0)
    demand_sizes(kept, "what `extra_memory` returns")
    whole = (case.n + 1) * given.models[0].numel() * 4 if case.method.needs_whole_tensors else 0
    return sum(kept) + whole


def _step(case: MethodCase, given: Tensors) -> Step:
    """The step of a plan that merges these tensors."""
    made = [
        TensorInput(index, TensorInfo("tensor", InMemory("tensor", one)))
        for index, one in enumerate(given.everyone)
    ]
    base = made.pop() if given.base is not None else None
    output = OutputTensor("tensor", "F32", tuple(given.models[0].shape))
    params = for_inputs(case.params, case.n)
    return Step((output,), tuple(made), case.method.name, params, base)


PROMISES: Sequence[Property[MethodCase]] = (
    Property("described", "it says what it does, and what its parameters mean", _is_described),
    Property("class", "its parameters are a class of Params", _params_are_ours),
    Property("pickle", "its parameters can be pickled for other processes", _params_travel),
    Property("whole", "whole tensors are read only where it says so", _streams),
    Property("later", "results can be made later where it says so", _can_be_made_later),
    Property("base", "models equal to the base give the base", _keeps_the_base),
    Property("equal", "equal tensors come out as they are, where it says so", _keeps_equal_tensors),
    Property("models", "models may be listed in any order, where it says so", _takes_models_in_any_order),
    Property("memory", "it takes no more memory than is planned for", _keeps_to_its_memory),
)
"""What every method keeps of what it says."""
