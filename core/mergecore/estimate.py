"""How much memory a plan takes, and how many workers fit into a bound."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mergecore.blocks import BLOCK
from mergecore.errors import MergeError
from mergecore.types import MergeMethod, Plan, Step

INTERPRETER = 220 << 20
"""What Python and torch take before the first block."""

CANDIDATES = 1 << 23
"""What the search for one cut may hold: candidates of 4 bytes."""

TEMPORARIES = 6
"""Blocks of numbers that a method may make beside its inputs."""


@dataclass(frozen=True)
class Estimate:
    """Workers, the bytes each of them needs at most, and the peak of all."""

    workers: int
    per_worker: int
    whole: int
    """Bytes of whole tensors that the methods ask for, for each worker."""

    @property
    def peak(self) -> int:
        """Bytes of anonymous memory at the peak, interpreter included."""
        return INTERPRETER + self.workers * (self.per_worker + self.whole)


def estimate(
    plan: Plan, methods: Mapping[str, MergeMethod[Any]], threads: int | None, max_memory: int | None
) -> Estimate:
    """The memory of `plan` with as many workers as asked for and as fit into `max_memory`.

    Raises:
        MergeError: E405 when not even one worker fits.
    """
    wanted = threads or _processors()
    per_worker = max((_blocks(step) for step in plan.steps), default=0)
    whole = max((_whole(step, methods) for step in plan.steps), default=0)
    one = Estimate(1, per_worker, whole)
    if max_memory is None:
        return Estimate(wanted, per_worker, whole)
    if max_memory < one.peak:
        raise MergeError(
            "E405",
            f"the merge needs about {one.peak >> 20} MB with one worker, --max-memory allows {max_memory >> 20} MB",
            hint="allow more, or merge fewer models at once",
        )
    return Estimate(min(wanted, (max_memory - INTERPRETER) // max(1, per_worker + whole)), per_worker, whole)


def _processors() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _blocks(step: Step) -> int:
    """Bytes of one worker while it works on `step`: raw bytes, inputs, base, temporaries, candidates."""
    inputs = [*step.inputs, *([step.base] if step.base else [])]
    width = 8 if any(one.tensor.dtype == "F64" for one in inputs) else 4
    size = max(BLOCK, step.shape[-1] if step.shape else 1)
    return size * (2 * width + (len(inputs) + 1 + TEMPORARIES) * width) + len(inputs) * CANDIDATES


def _whole(step: Step, methods: Mapping[str, MergeMethod[Any]]) -> int:
    if step.method is None or not methods[step.method].whole:
        return 0
    return step.inputs[0].tensor.count * 4 * (len(step.inputs) + 1)
