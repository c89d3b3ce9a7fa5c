"""How many answers of a language model are right, without generating any.

Read `judged`.  The likeliest continuation of a prompt is the answer just when every token of the answer is the
likeliest after the prompt and the tokens before it; one pass over prompt and answer shows that, and how likely it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any

import torch
from benchmarks.evidence_llm.tasks import Sample
from torch import Tensor

Encoded = tuple[list[int], list[int]]
"""The tokens of a prompt, and those of its answer."""


@dataclass(frozen=True)
class Judged:
    """For each sample, whether the answer is right and the mean loss of its tokens."""

    right: Sequence[bool]
    losses: Sequence[float]

    @property
    def accuracy(self) -> float:
        """Right answers, in percent."""
        return 100 * mean(self.right)

    @property
    def loss(self) -> float:
        """The mean over the samples."""
        return mean(self.losses)


def encoded(tokenizer: Any, samples: Sequence[Sample]) -> list[Encoded]:
    """The tokens of samples, prompt and answer taken apart."""
    return [(_tokens(tokenizer, one.prompt), _tokens(tokenizer, one.answer)) for one in samples]


def answer_logits(module: Any, batch: Sequence[Encoded]) -> tuple[Tensor, Tensor]:
    """The logits (n, vocabulary) before every token of the answers of a batch, and these tokens (n,)."""
    length = max(len(prompt) + len(answer) for prompt, answer in batch)
    tokens = torch.zeros(len(batch), length, dtype=torch.long)
    seen = torch.zeros_like(tokens)
    asked = torch.zeros_like(tokens, dtype=torch.bool)  # where the next token is of the answer
    for row, (prompt, answer) in enumerate(batch):
        end = len(prompt) + len(answer)
        tokens[row, :end] = torch.tensor([*prompt, *answer])
        seen[row, :end] = 1
        asked[row, len(prompt) - 1 : end - 1] = True
    hidden = module.model(input_ids=tokens, attention_mask=seen).last_hidden_state  # (batch, length, width)
    return module.lm_head(hidden[asked]).float(), tokens[:, 1:][asked[:, :-1]]


@torch.inference_mode()
def judged(module: Any, samples: Sequence[Encoded], size: int = 32) -> Judged:
    """How a module does with samples."""
    order = sorted(range(len(samples)), key=lambda index: len(samples[index][0]) + len(samples[index][1]))
    found: dict[int, tuple[bool, float]] = {}
    for start in range(0, len(order), size):
        chosen = order[start : start + size]
        batch = [samples[index] for index in chosen]
        logits, answers = answer_logits(module, batch)
        right = logits.argmax(-1) == answers
        losses = torch.nn.functional.cross_entropy(logits, answers, reduction="none")
        for index, one, other in zip(chosen, _parts(right, batch), _parts(losses, batch), strict=True):
            found[index] = bool(one.all()), float(other.mean())
    return Judged(
        [found[index][0] for index in range(len(samples))], [found[index][1] for index in range(len(samples))]
    )


def scores(module: Any, tasks: Mapping[str, Sequence[Encoded]]) -> dict[str, Judged]:
    """How a module does at every task."""
    return {task: judged(module, samples) for task, samples in tasks.items()}


def _parts(values: Tensor, batch: Sequence[Encoded]) -> Iterator[Tensor]:
    return iter(values.split([len(answer) for _, answer in batch]))


def _tokens(tokenizer: Any, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])
