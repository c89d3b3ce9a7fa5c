"""The factors of an adapter as PEFT stores them, and the facts beside them; read `arranged`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from mergecore_plugins.lora.making.kinds import FactorKind

FORMATS = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
Pair: TypeAlias = tuple[Tensor, Tensor]
"""b (m, r) and a (r, n), whose product is the change as it is stored."""


def arranged(pairs: Sequence[Pair], kind: FactorKind, turned: bool = False) -> list[Tensor]:
    """A and B as PEFT wants them: A (r, in) and B (out, r); of an embedding A is (r, tokens)."""
    turned = turned or kind == "embedding"
    each = [(b.T, a.T) if turned else (a, b) for b, a in pairs]
    if kind != "experts":
        return list(each[0])
    return [torch.cat([a for a, _ in each]), torch.stack([b for _, b in each], dim=-1).flatten(1)]


def facts_in(each: Sequence[Tensor], shape: tuple[int, ...]) -> Tensor:
    """What is stored of decompositions: each has the squared lengths of change and rest, and then singular values."""
    made = torch.zeros(shape, dtype=torch.float64)
    lengths = torch.stack([one[:2] for one in each]).sum(0)
    values = torch.stack([one[2:] for one in each])  # (experts, r)
    made[0, 0, 0, :2] = lengths
    made[0, 0, 1, : values.shape[1]] = values.square().sum(0)
    made[0, 0, 2, : values.shape[1]] = values.amax(0)
    return made
