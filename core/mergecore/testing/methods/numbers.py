"""What the numbers keep that a merge method makes; read `NUMBERS`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from mergecore.errors import MergeError
from mergecore.testing.findings import Property, demand
from mergecore.testing.methods.cases import LARGE, SHAPES, MethodCase, Tensors, finite, same
from mergecore.testing.methods.drawing import drawn_params, extreme_params
from mergecore.testing.methods.running import InOrder, Manner, TakingTurns
from mergecore.testing.methods.watching import Guarded
from mergecore.types.params import Params


def _every_shape(case: MethodCase) -> Iterator[Tensors]:
    for shape in SHAPES:
        yield from case.normal(shape)


def _merges(case: MethodCase) -> None:
    for given in [*case.ordinary, *_every_shape(case), *case.normal(LARGE)]:
        _is_merged(case, given)


def _is_merged(case: MethodCase, given: Tensors) -> None:
    """Demand that ordinary numbers are merged: of a tensor of one number, those of one draw in ten at least.

    Two such tensors point the same way or to opposite ones, and opposite ones may have no mean.
    """
    shape = given.models[0].shape
    draws = [given]
    if shape.numel() == 1:
        draws += [one for seed in range(1, 10) for one in case.normal(shape, seed) if one.what == given.what]
    refused = None
    for one in draws:
        try:
            finite(case.merge(one), given.what)
        except MergeError as error:
            refused = error
        else:
            return
    raise AssertionError(
        f"it refuses ordinary numbers, of {given.what}: {refused}; "
        "models have tensors of every shape, and all of them are merged"
    ) from refused


def _any_number_of_models(case: MethodCase) -> None:
    least, most = case.method.models
    within = case.method.base == "required" and not case.method.base_apart  # the base is one of them
    tried = [n for n in (least, least + 1, 2, 3, 5, 8, most) if n and least <= n <= (most or n)]
    for n in sorted({n + within for n in tried} - {case.n}):
        try:
            other = MethodCase.of(case.method, None, n)
        except ValueError as error:
            raise AssertionError(f"it says models={case.method.models}, and takes no {n}: {error}") from error
        for given in other.normal((5, 3)):
            _is_merged(other, replace(given, what=f"{n} models"))


def _repeats(case: MethodCase) -> None:
    for given in [*_every_shape(case), *case.ordinary]:
        first, again = case.tried(given), case.tried(given)
        demand(
            same(first, again),
            f"another result each time for {given.what}; take random numbers from `block.uniform`",
        )


def _any_order(case: MethodCase) -> None:
    orders = (
        lambda count: range(count - 1, -1, -1),
        lambda count: sorted(range(count), key=lambda i: i % 3),
    )
    for given, block in [*((one, 16) for one in case.ordinary), *((one, None) for one in case.normal(LARGE))]:
        wanted = case.tried(given, Manner(block=block))
        for order in orders:
            found = case.tried(given, Manner(crew=InOrder(order), block=block))
            demand(
                same(found, wanted),
                f"the order of blocks matters for {given.what}; add up over blocks by `group.reduce`, "
                "and keep nothing from block to block",
            )


def _any_block(case: MethodCase) -> None:
    for small in case.normal((31, 17)):
        given = small.to(torch.float64)
        whole = case.tried(given)
        for block in (64, 17 * 3):
            found = case.tried(given, Manner(block=block))
            demand(
                _close(found, whole, 1e-9),
                f"the result depends on how {given.what} is cut into blocks; "
                "what is measured over a whole tensor is measured by `group.reduce` and its kin before `group.map`",
            )


def _close(one: Tensor | None, other: Tensor | None, tolerance: float) -> bool:
    if one is None or other is None:
        return one is other
    scale = float(other.abs().max()) if other.numel() else 0.0
    return torch.allclose(one, other, rtol=tolerance, atol=tolerance * max(scale, 1e-30))


def _any_threads(case: MethodCase) -> None:
    for given in case.normal((12, 10)):
        wanted = case.tried(given, Manner(block=20))
        found = case.tried(given, Manner(crew=TakingTurns(), block=20))
        demand(
            same(found, wanted),
            f"several threads make another result for {given.what}; "
            "the functions given to `map` and `reduce` must share no memory that they write to",
        )


def _any_dtype(case: MethodCase) -> None:
    kinds: dict[str, tuple[torch.dtype, ...]] = {
        "F16": (torch.float16,),
        "BF16": (torch.bfloat16,),
        "mixed": (torch.float16, torch.bfloat16, torch.float32),
        "F64 and BF16": (torch.float64, torch.bfloat16),
        "F64": (torch.float64,),
    }
    for given in case.ordinary:
        for words, dtypes in kinds.items():
            stored = given.to(*dtypes)
            merged = case.tried(stored)
            if merged is None:
                continue
            finite(merged, f"{given.what} in {words}")
            work = torch.float64 if torch.float64 in dtypes else torch.float32
            demand(
                same(merged, case.tried(stored.to(work))),
                f"numbers in {words} give another result than the same numbers in {work} for {given.what}",
            )


def _exact_in_double(case: MethodCase) -> None:
    for given in case.ordinary:
        generator = torch.Generator().manual_seed(1)
        moved = [
            one + 1e-9 * torch.randn(one.shape, generator=generator).double()
            for one in given.to(torch.float64).everyone
        ]
        merged = case.tried(given.like(given.what, *moved))
        if merged is None:
            continue
        rounded = torch.equal(merged, merged.float().double())
        various = len(merged.unique()) > merged.numel() // 2
        demand(
            not (rounded and various),
            "float64 is computed in float32: the result has no more digits than float32 has; "
            "make tensors with the dtype of `block.x`",
        )


def _exact_in_single(case: MethodCase) -> None:
    for given in [*case.ordinary, *case.normal((7,)), *case.normal((3, 4, 5))]:
        found, wanted = case.tried(given), case.tried(given.to(torch.float64))
        if found is None or wanted is None:
            continue
        off = (found.double() - wanted).abs() > 2e-5 * wanted.abs() + 2e-6 * wanted.abs().max()
        demand(
            float(off.double().mean()) <= 0.1,
            f"float32 is computed in less than float32 for {given.what}: the result differs from that in float64 "
            f"by up to {float((found.double() - wanted).abs().max()):.1g}; make tensors with the dtype of `block.x`",
        )


def _edges(case: MethodCase) -> Iterator[Tensors]:
    """Tensors on which methods divide by zero, or leave the range of their numbers."""
    for given in case.ordinary:
        one, count = given.models[0], len(given.everyone)
        signs = [one * (1 - 2 * (i % 2)) for i in range(count)]
        base = [given.base] if given.base is not None else []
        yield given.like("tensors of zeros", *[torch.zeros_like(one)] * count)
        yield given.like("equal tensors", *[one] * count)
        yield given.like("opposite tensors", *signs)
        yield given.like("tensors of one value", *[torch.full_like(one, 0.5)] * count)
        yield given.like("one tensor of zeros", torch.zeros_like(one), *given.models[1:], *base)
        yield given.like("large numbers, up to 65504", *[one.clamp(-1, 1) * 65504 for one in given.everyone])
        yield given.like(
            "numbers of 1e10, beyond what float16 holds", *[one * 1e10 for one in given.everyone]
        )
        yield given.like("tiny numbers of 1e-30", *[one * 1e-30 for one in given.everyone])
        yield given.like("numbers of 1e-44, which are not normal", *[one * 1e-44 for one in given.everyone])
        mixed = [one * 10.0 ** (7 * (i % 3) - 7) for i, one in enumerate(given.everyone)]
        yield given.like("tensors of very different sizes", *mixed)
        sparse = [
            one * (torch.arange(one.numel()).view(one.shape) % 5 == i) for i, one in enumerate(given.everyone)
        ]
        yield given.like("tensors that are nearly all zeros", *sparse)


def _is_finite_at_edges(case: MethodCase) -> None:
    for given in _edges(case):
        merged = case.tried(given)
        if merged is not None:
            finite(merged, given.what)


def _leaves_inputs_alone(case: MethodCase) -> None:
    for given in case.ordinary:
        before = [one.clone() for one in given.everyone]
        case.tried(given, Manner(kind=Guarded, block=64))
        demand(
            all(torch.equal(one, kept) for one, kept in zip(given.everyone, before, strict=True)),
            "it writes into the tensors of the models; `block.x` is a copy that may be overwritten",
        )


TRIED_WITH_PARAMETERS = ("tensors of zeros", "opposite tensors", "tensors that are nearly all zeros")


def _takes_drawn_parameters(case: MethodCase) -> None:
    edges = list(_edges(case))
    small = [next(iter(case.normal((5, 3)))), *(one for one in edges if one.what in TRIED_WITH_PARAMETERS)]
    for params in (*extreme_params(case.method, case.n), *drawn_params(case.method, case.n, 25)):
        for given in small:
            merged = case.tried(given, params=params)
            if merged is not None:
                finite(merged, f"{given.what} with the parameters {_written(params)}")


def _written(params: Params) -> str:
    return ", ".join(f"{name}={value}" for name, value in params) or "of nobody"


def _keeps_nothing(case: MethodCase) -> None:
    """Tensors have parameters of their own, as gradients and filters give them."""
    others = list(drawn_params(case.method, case.n, 6, seed=1))
    for given in case.ordinary:
        wanted = case.tried(given)
        for params in others:
            case.tried(given, params=params)
            demand(
                same(case.tried(given), wanted),
                "what it makes of a tensor depends on the parameters of the tensor before: gradients and filters "
                "would be wrong; keep nothing between tensors, or return it from `prepare`",
            )


NUMBERS: Sequence[Property[MethodCase]] = (
    Property("merges", "tensors of many shapes are merged, and are finite", _merges),
    Property("counts", "so many models are merged as it says", _any_number_of_models),
    Property("edges", "zeros, equal, opposite, large and tiny numbers stay finite", _is_finite_at_edges),
    Property("parameters", "all parameters in the ranges that are declared work", _takes_drawn_parameters),
    Property("same", "merged again, the result is the same", _repeats),
    Property("order", "blocks may be worked on in any order", _any_order),
    Property("blocks", "tensors may be cut into any blocks", _any_block),
    Property("threads", "several threads make the same result", _any_threads),
    Property("dtypes", "numbers in every format are merged as what they are", _any_dtype),
    Property("float32", "float32 is computed in float32", _exact_in_single),
    Property("float64", "float64 is computed in float64", _exact_in_double),
    Property("inputs", "models and base stay as they are", _leaves_inputs_alone),
    Property("gradients", "tensors may have parameters of their own", _keeps_nothing),
)
"""What every method keeps."""
