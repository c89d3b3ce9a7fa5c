"""Experts of a language model: tuned whole, and tuned in a few entries only, as reinforcement learning does.

Read `tuned` and `thinned`.  Both are the same with every run of one seed on one machine.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from benchmarks.evidence_llm.scoring import Encoded, answer_logits
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer


@dataclass(frozen=True)
class Schedule:
    """How long a task is trained, and how fast; the rate falls to 0 in a line."""

    steps: int
    rate: float = 5e-5
    batch: int = 8


def load(folder: Path) -> Any:
    """The model of a folder in float32."""
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def save(module: Any, base: Path, out: Path) -> None:
    """Writes a model in bf16 with the tokenizer of its base, complete or not at all."""
    part = out.with_name(f"{out.name}.part")
    module.to(torch.bfloat16).save_pretrained(part)
    AutoTokenizer.from_pretrained(base).save_pretrained(part)
    part.rename(out)


def tuned(
    module: Any,
    samples: Sequence[Encoded],
    schedule: Schedule,
    seed: int,
    masks: Mapping[str, Tensor] | None = None,
) -> list[float]:
    """Trains a module on the answers of samples; the loss of each step.

    With `masks`, only these tensors learn, where their mask is True.
    """
    torch.manual_seed(seed)
    named = {name: one for name, one in module.named_parameters() if masks is None or name in masks}
    for name, one in module.named_parameters():
        one.requires_grad_(name in named)
    optimizer = torch.optim.AdamW(
        named.values(), lr=schedule.rate, weight_decay=0.0, betas=(0.9, 0.98), fused=True
    )
    batches = _batches(samples, schedule)
    losses = []
    for step in range(schedule.steps):
        optimizer.param_groups[0]["lr"] = schedule.rate * _share(step, schedule.steps)
        logits, answers = answer_logits(module, next(batches))
        loss = torch.nn.functional.cross_entropy(logits, answers)
        loss.backward()
        for name, mask in (masks or {}).items():
            named[name].grad.mul_(mask)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


def thinned(module: Any, base: Mapping[str, Tensor], share: float) -> dict[str, Tensor]:
    """Takes back all but the largest changes of every matrix; the masks of what stays.

    Vectors, such as those of norms, get all of the base's values back.
    """
    masks: dict[str, Tensor] = {}
    with torch.no_grad():
        for name, one in module.named_parameters():
            change = one - base[name]
            if one.dim() < 2:
                one.copy_(base[name])
                continue
            least = change.abs().flatten().kthvalue(max(1, int(one.numel() * (1 - share)))).values
            masks[name] = change.abs() > least
            one.copy_(torch.where(masks[name], one, base[name]))
    return masks


def _share(step: int, steps: int) -> float:
    """A short rise, then a line down to 0."""
    return min((step + 1) / 10, (steps - step) / steps)


def _batches(samples: Sequence[Encoded], schedule: Schedule) -> Iterator[list[Encoded]]:
    """Endless batches, every sample once in each pass."""
    while True:
        order = torch.randperm(len(samples)).tolist()
        for start in range(0, len(order) - schedule.batch + 1, schedule.batch):
            yield [samples[index] for index in order[start : start + schedule.batch]]
