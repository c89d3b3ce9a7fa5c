"""Weights of checkpoints, oldest first, whose average follows a schedule; read `schedule_weights` first."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from math import sqrt
from typing import Literal, TypeAlias

Schedule: TypeAlias = Literal["uniform", "ema", "linear", "minus-sqrt"]

DECAY = 0.5
"""What `ema` leaves of the average where nothing is said."""
DECAYS: Mapping[str, Callable[[float], float]] = {
    "linear": lambda x: 1 - x,
    "minus-sqrt": lambda x: 1 - sqrt(x),
}
"""Schedules that stand for a decay of the learning rate: its factor at each part 0 <= x < 1 of the decay."""


def schedule_weights(
    schedule: Schedule, count: int, *, decay: float = DECAY, at: Sequence[float] | None = None
) -> tuple[float, ...]:
    """The weight of each of `count` checkpoints, oldest first; they sum to 1.

    decay: what `ema` leaves of the average when a checkpoint joins it.
    at: the steps of the checkpoints, which rise; None where they are evenly spaced.
    """
    if schedule == "uniform":
        return (1 / count,) * count
    if schedule == "ema":
        return tuple((1 - decay if i else 1.0) * decay ** (count - 1 - i) for i in range(count))
    return _of_decay(DECAYS[schedule], _parts(count, at))


def _parts(count: int, at: Sequence[float] | None) -> list[float]:
    """How far the decay is at each checkpoint: it would be over one average distance after the last one."""
    if at is None or count == 1:
        return [i / count for i in range(count)]
    return [(step - at[0]) / (at[-1] - at[0]) * (count - 1) / count for step in at]


def _of_decay(factor: Callable[[float], float], parts: Sequence[float]) -> tuple[float, ...]:
    """Weights whose sums from each checkpoint on are the factors of the change that leads to it."""
    factors = [factor(part) for part in parts[1:]]
    later = [one - after for one, after in pairwise([*factors, 0.0])]
    return (1 - sum(later), *later)
