"""A model that is evaluated with other weights than its own, and has its own again afterwards; read `evaluate`."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from mergecore import ConfigError

if TYPE_CHECKING:
    from transformers import Trainer, TrainingArguments

PREFIX = "eval_averaged"
"""What the names of the metrics begin with."""


def check_single(args: TrainingArguments, what: str) -> None:
    """Raise E105 where no process has all weights to itself."""
    if args.world_size > 1 or args.fsdp or args.deepspeed:
        hint = (
            "evaluate the averaged folder when the run is over"
            if what == "trainer"
            else "use AveragingCallback"
        )
        raise ConfigError(
            "E105", f"{what}: this works in one process only, without FSDP and DeepSpeed", hint=hint
        )


def check_plain(model: nn.Module, what: str) -> None:
    """Raise E105 for a model with adapters."""
    if hasattr(model, "peft_config"):
        told = (
            f"{what}: the model has adapters, and the average of their factors is not that of their changes"
        )
        hint = "average the checkpoints without it: AveragingCallback() or `mergecore average`"
        raise ConfigError("E105", told, hint=hint)


def evaluate(trainer: Trainer, model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Have Trainer evaluate and log the model with other weights; nothing else changes, nor any random number.

    Costs a copy of the weights of the model in the memory of the host, beside `weights`.
    """
    with _same_random_numbers(), lent(model, weights):
        trainer.evaluate(metric_key_prefix=PREFIX)


@contextmanager
def lent(model: nn.Module, weights: Mapping[str, Tensor]) -> Iterator[None]:
    """The model with other weights, by the names of its state, until the body ends."""
    own = {name: one.detach().to("cpu", copy=True) for name, one in model.state_dict().items()}
    try:
        _load(model, weights)
        yield
    finally:
        _load(model, own)


def _load(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    with torch.no_grad():
        for name, one in model.state_dict().items():
            one.copy_(weights[name])


@contextmanager
def _same_random_numbers() -> Iterator[None]:
    """Python, numpy and torch draw afterwards what they would have drawn."""
    import numpy as np

    states: tuple[Any, ...] = (random.getstate(), np.random.get_state())
    try:
        with torch.random.fork_rng():
            yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
