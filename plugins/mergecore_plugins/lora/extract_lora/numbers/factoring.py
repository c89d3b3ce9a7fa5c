"""Makes the factors of a weight and measures what they lack; read `factored`."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mergecore import Block, TensorGroup
from mergecore.errors import InputError
from mergecore_plugins.lora.extract_lora.methods import FactorParams, MeasureParams
from mergecore_plugins.lora.extract_lora.steps import FACTS
from mergecore_plugins.lora.making.arranging import FORMATS, Pair, arranged, facts_in
from mergecore_plugins.lora.making.changes import Held, Streamed, change_of
from mergecore_plugins.lora.making.decomposing import Decomposition, decompose


def factored(group: TensorGroup, params: FactorParams) -> tuple[Tensor, ...]:
    """The factors A and B as PEFT has them, once more for a tied head, and the facts; or the facts alone."""
    alone = len(group.outputs) == 1
    dtype = torch.float32 if alone else FORMATS[group.outputs[0].dtype]
    pairs, facts = (
        _experts(group, params, dtype) if params.kind == "experts" else _single(group, params, dtype)
    )
    made = [] if alone else arranged(pairs, params.kind, params.turned)
    for one in group.outputs[2:-1:2]:  # other modules with the same weight: embeddings, or a head
        made += made[:2] if one.name.endswith("embedding_A") else [made[1].T, made[0].T]
    shaped = [one.reshape(to.shape) for one, to in zip(made, group.outputs, strict=False)]
    return *shaped, facts_in(facts, group.outputs[-1].shape)


def _single(group: TensorGroup, params: FactorParams, dtype: torch.dtype) -> tuple[list[Pair], list[Tensor]]:
    pair, facts = _factors(change_of(group), group, params, dtype, "factors")
    if params.rounded and _is_base(group, params.rounded):
        facts.zero_()
    return [pair], [facts]


def _experts(group: TensorGroup, params: FactorParams, dtype: torch.dtype) -> tuple[list[Pair], list[Tensor]]:
    """The factors of each expert; `group.matrices` are the experts, and then what they were."""
    pairs, facts = [], []
    for index in range(params.experts):
        now, before = group.matrices[index], group.matrices[params.experts + index]
        height = now.shape[0]
        change = now.read(0, height, group.dtype).sub_(before.read(0, height, group.dtype))
        for one in (now, before):
            one.raise_faults()
        pair, found = _factors(Held(change), group, params, dtype, f"factors of expert {index}")
        if params.rounded and _is_rounding(change, before.read(0, height, group.dtype), params.rounded):
            found.zero_()
        pairs.append(pair)
        facts.append(found)
    return pairs, facts


def _factors(
    change: Held | Streamed, group: TensorGroup, params: FactorParams, dtype: torch.dtype, purpose: str
) -> tuple[Pair, Tensor]:
    """The factors as they will be stored, and the facts: squared lengths of change and rest, singular values."""
    length = _finite(change.squares(), group)
    uniform = (lambda count: group.uniform(count, purpose)) if params.randomised else None
    found: Decomposition = decompose(change, params.rank, uniform)
    wide = change.dtype
    b, a = (one.to(dtype).to(wide) for one in found.factors())
    lengths = torch.tensor([length, change.left_by(b, a)], dtype=torch.float64)
    return (b, a), torch.cat([lengths, found.s])


def measured(group: TensorGroup, params: MeasureParams) -> Tensor | tuple[Tensor, ...]:
    """The facts of a tensor that is not factored."""
    size = _finite(float(group.reduce(lambda block: block.x[0].double().square().sum())), group)
    facts = torch.zeros(group.outputs[0].shape, dtype=torch.float64)
    if params.rounded and _is_base(group, params.rounded):
        return (facts,)
    facts[0, 0, 0, 0] = size
    facts[0, 0, 0, 1] = size if params.lost else 0.0
    return (facts,)


def _is_base(group: TensorGroup, dtype: str) -> bool:
    """Whether the fine-tune has what the base is in that format: its change is nothing but rounding."""

    def others(block: Block) -> Tensor:
        assert block.base is not None
        alike = _is_rounding(block.x[0], block.base.reshape(block.x[0].shape), dtype)
        return torch.tensor(0.0 if alike else 1.0, dtype=torch.float64)

    return float(group.reduce(others)) == 0


def _is_rounding(change: Tensor, before: Tensor, dtype: str) -> bool:
    return torch.equal(change, before.to(FORMATS[dtype]).to(before.dtype).sub_(before))


def _finite(squares: float, group: TensorGroup) -> float:
    """The squared length of a change, unless it has none."""
    if not math.isfinite(squares):
        name = group.outputs[-1].name.removeprefix(FACTS)
        what = f"the change of '{name}' is not finite (NaN or Inf), so no adapter comes near it"
        raise InputError("E234", what, tensor=name, hint="the fine-tune or its base is damaged; use another")
    return squares
