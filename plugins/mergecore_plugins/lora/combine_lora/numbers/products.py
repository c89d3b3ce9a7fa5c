"""Makes the factors of merged changes and measures what they lack; read `of_factors` and `of_changes`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from mergecore import MergeError, PluginError, TensorGroup
from mergecore.types import Blocks, Matrix
from mergecore_plugins.lora.combine_lora.methods import CombinedParams
from mergecore_plugins.lora.combine_lora.numbers.collecting import merged
from mergecore_plugins.lora.making.arranging import FORMATS, Pair, arranged, facts_in
from mergecore_plugins.lora.making.changes import Held
from mergecore_plugins.lora.making.decomposing import decompose

Made: TypeAlias = tuple[Pair, Tensor]
"""Factors as they are stored, and facts: squared lengths of change and rest, singular values."""


def of_factors(group: TensorGroup, params: CombinedParams) -> tuple[Tensor, ...]:
    """A and B of the merged change, and the facts; no whole matrix is made."""
    dtype = FORMATS[group.outputs[0].dtype]
    read = [_pairs(params, *pair) for pair in _two_by_two(group.matrices)]
    made = []
    for expert in range(params.experts):
        factors = _factors(params, [pairs[expert] for pairs in read])
        products = _Products(params.name, factors, group, expert)
        assert params.method.merge_factors
        b, a = params.method.merge_factors(products, params.params)
        _check(params, b, a)
        _check_finite(params, b, a)
        made.append(_reduced(b, a, params.rank, dtype))
    return _stored(group, params, made)


def _check(params: CombinedParams, b: Tensor, a: Tensor) -> None:
    """Raise E605 for factors that are none of the merged change."""
    m, n = params.matrix
    if tuple(b.shape) != (m, a.shape[0]) or tuple(a.shape) != (b.shape[1], n):
        what = f"'merge_factors' of '{params.method.name}' returned {list(b.shape)} and {list(a.shape)} for a matrix of"
        raise PluginError("E605", f"{what} {[m, n]}", tensor=params.name)


def _check_finite(params: CombinedParams, *made: Tensor) -> None:
    """Raise E404 for what has no singular values."""
    if not all(bool(torch.isfinite(one).all()) for one in made):
        what = f"the merged change of '{params.name}' is not finite (NaN or Inf), so it has no factors"
        hint = "look at the adapters and at the parameters of the method"
        raise MergeError("E404", what, tensor=params.name, hint=hint)


@dataclass(frozen=True)
class _Products:
    """What a merge method gets."""

    name: str
    factors: Sequence[Pair]
    group: TensorGroup
    expert: int

    def uniform(self, count: int, purpose: str = "uniform") -> Tensor:
        """Random numbers of its own for each expert."""
        own = f"{purpose} of expert {self.expert}" if self.expert else purpose
        return self.group.uniform(count, own).cpu()


def _two_by_two(matrices: Sequence[Matrix]) -> list[tuple[Matrix, Matrix]]:
    return list(zip(matrices[::2], matrices[1::2], strict=True))


def _pairs(params: CombinedParams, first: Matrix, second: Matrix) -> list[Pair]:
    """The factors b (m, r) and a (r, n) of each expert, from A and B as PEFT stores them."""
    a, b = (one.read(0, one.shape[0], torch.float64) for one in (first, second))
    if params.kind == "embedding":
        return [(a.T, b.T)]
    rank = len(a) // params.experts
    each = b.view(len(b), rank, params.experts)  # every `experts`-th column is of one expert
    return [(each[:, :, i], a[i * rank : (i + 1) * rank]) for i in range(params.experts)]


def _factors(params: CombinedParams, read: Sequence[Pair]) -> list[Pair]:
    """The factors of all inputs; those of a change that is 0 have the rank 0."""
    m, n = params.matrix
    found = [(torch.zeros(m, 0, dtype=torch.float64), torch.zeros(0, n, dtype=torch.float64))] * params.inputs
    for (index, scale), (b, a) in zip(params.scales, read, strict=True):
        found[index] = b * scale, a
    return found


def _reduced(b: Tensor, a: Tensor, rank: int, dtype: torch.dtype) -> Made:
    """The product b a (m, k), (k, n) in `rank` factors, the best there are; its own where it has no more."""
    left, small, right = _core(b, a)
    u, s, vt = torch.linalg.svd(small)
    if b.shape[1] > rank:
        root = s[:rank].sqrt()
        kept = left @ (u[:, :rank] * root), (root[:, None] * vt[:rank]) @ right.T
    else:
        kept = _widened(b, a, rank)
    rounded = kept[0].to(dtype).double(), kept[1].to(dtype).double()
    rest = _core(torch.cat([b, -rounded[0]], dim=1), torch.cat([a, rounded[1]]))[1]
    lengths = torch.stack([s.square().sum(), rest.square().sum()])
    values = torch.zeros(rank, dtype=torch.float64)
    values[: len(s[:rank])] = s[:rank]
    return rounded, torch.cat([lengths, values])


def _core(b: Tensor, a: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """B a as an orthonormal (m, p), a small (p, q) and the transpose of an orthonormal (n, q)."""
    q, r = torch.linalg.qr(b)
    p, t = torch.linalg.qr(a.T)
    return q, r @ t.T, p


def _widened(b: Tensor, a: Tensor, rank: int) -> Pair:
    """The same product in more factors, which are 0."""
    more = rank - b.shape[1]
    return torch.cat([b, b.new_zeros(len(b), more)], dim=1), torch.cat([a, a.new_zeros(more, a.shape[1])])


def of_changes(group: TensorGroup, params: CombinedParams) -> tuple[Tensor, ...]:
    """A and B of what a merge method makes of whole changes, and the facts."""
    dtype = FORMATS[group.outputs[0].dtype]
    whole = merged(group, params).cpu()
    _check_finite(params, whole)
    made = []
    for expert, change in enumerate(whole.view(params.experts, *params.matrix)):
        held = Held(change)
        uniform = _uniform(group, expert) if params.randomised else None
        found = decompose(held, params.rank, uniform)
        b, a = (one.to(dtype) for one in found.factors())
        lost = held.left_by(b.to(held.dtype), a.to(held.dtype))
        lengths = torch.tensor([held.squares(), lost], dtype=torch.float64)
        made.append(((b, a), torch.cat([lengths, found.s])))
    return _stored(group, params, made)


def _uniform(group: TensorGroup, expert: int) -> Callable[[int], Tensor]:
    return lambda count: group.uniform(count, f"factors of expert {expert}").cpu()


def _stored(group: TensorGroup, params: CombinedParams, made: Sequence[Made]) -> tuple[Tensor, ...]:
    factors = arranged([pair for pair, _ in made], params.kind)
    wide = torch.float64 if group.outputs[0].dtype == "F64" else torch.float32
    shaped = [one.to(wide).reshape(to.shape) for one, to in zip(factors, group.outputs, strict=False)]
    return *shaped, facts_in([facts for _, facts in made], group.outputs[-1].shape)


def same(group: TensorGroup) -> Blocks:
    """What all inputs are.

    Raises:
        MergeError: E404 where they are not the same.
    """

    def first(block: object) -> Tensor:
        x: Tensor = block.x  # type: ignore[attr-defined]
        if not all(torch.equal(x[0], row) for row in x[1:]):
            what = f"tensor '{group.name}' is a weight of the base, and differs between the adapters"
            raise MergeError("E404", what, tensor=group.name, hint="merge adapters of one base")
        return x[0]

    return group.map(first)
