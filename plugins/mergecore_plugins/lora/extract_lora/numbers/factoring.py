"""Makes the factors of a weight and measures what they lack; read `factored`."""

from __future__ import annotations

import torch
from torch import Tensor

from mergecore import TensorGroup
from mergecore_plugins.lora.extract_lora.methods import FactorParams, MeasureParams
from mergecore_plugins.lora.extract_lora.numbers.changes import Held, Streamed, change_of
from mergecore_plugins.lora.extract_lora.numbers.decomposing import Decomposition, decompose

_FORMATS = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


def factored(group: TensorGroup, params: FactorParams) -> tuple[Tensor, ...]:
    """The factors A and B as PEFT has them, once more for a tied head, and the facts; or the facts alone."""
    alone = len(group.outputs) == 1
    dtype = torch.float32 if alone else _FORMATS[group.outputs[0].dtype]
    pairs, facts = (
        _experts(group, params, dtype) if params.kind == "experts" else _single(group, params, dtype)
    )
    made = [] if alone else _arranged(pairs, params)
    for one in group.outputs[2:-1:2]:  # other modules with the same weight: embeddings, or a head
        made += made[:2] if one.name.endswith("embedding_A") else [made[1].T, made[0].T]
    shaped = [one.reshape(to.shape) for one, to in zip(made, group.outputs, strict=False)]
    return *shaped, _facts(facts, group.outputs[-1].shape)


Pair = tuple[Tensor, Tensor]
"""b (m, r) and a (r, n), whose product is the change as it is stored."""


def _single(group: TensorGroup, params: FactorParams, dtype: torch.dtype) -> tuple[list[Pair], list[Tensor]]:
    pair, facts = _factors(change_of(group), group, params, dtype, "factors")
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
        pairs.append(pair)
        facts.append(found)
    return pairs, facts


def _factors(
    change: Held | Streamed, group: TensorGroup, params: FactorParams, dtype: torch.dtype, purpose: str
) -> tuple[Pair, Tensor]:
    """The factors as they will be stored, and the facts: squared lengths of change and rest, singular values."""
    uniform = (lambda count: group.uniform(count, purpose)) if params.randomised else None
    found: Decomposition = decompose(change, params.rank, uniform)
    wide = change.dtype
    b, a = (one.to(dtype).to(wide) for one in found.factors())
    lengths = torch.tensor([change.squares(), change.left_by(b, a)], dtype=torch.float64)
    return (b, a), torch.cat([lengths, found.s])


def _arranged(pairs: list[Pair], params: FactorParams) -> list[Tensor]:
    """A and B as PEFT wants them: A (r, in) and B (out, r); of an embedding A is (r, tokens)."""
    turned = params.turned or params.kind == "embedding"
    each = [(b.T, a.T) if turned else (a, b) for b, a in pairs]
    if params.kind != "experts":
        return list(each[0])
    return [torch.cat([a for a, _ in each]), torch.stack([b for _, b in each], dim=-1).flatten(1)]


def _facts(each: list[Tensor], shape: tuple[int, ...]) -> Tensor:
    made = torch.zeros(shape, dtype=torch.float64)
    lengths = torch.stack([one[:2] for one in each]).sum(0)
    values = torch.stack([one[2:] for one in each])  # (experts, r)
    made[0, 0, 0, :2] = lengths
    made[0, 0, 1, : values.shape[1]] = values.square().sum(0)
    made[0, 0, 2, : values.shape[1]] = values.amax(0)
    return made


def measured(group: TensorGroup, params: MeasureParams) -> Tensor | tuple[Tensor, ...]:
    """The facts of a tensor that is not factored."""
    size = float(group.reduce(lambda block: block.x[0].double().square().sum()))
    facts = torch.zeros(group.outputs[0].shape, dtype=torch.float64)
    facts[0, 0, 0, 0] = size
    facts[0, 0, 0, 1] = size if params.lost else 0.0
    return (facts,)
