"""How much memory a plan takes, and how many workers fit into a bound."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from mergecore.errors import MergeError
from mergecore.files.sizes import size_text
from mergecore.types import MergeMethod, Plan, Step
from mergecore.types.steps import BLOCK, CANDIDATES

INTERPRETER = 220 << 20
"""What Python and torch take before the first block."""


ENCODING = 6
"""Blocks of float32 numbers that an encoding may make."""

TEMPORARIES = 6
"""Blocks of numbers that a method may make beside its inputs."""


@dataclass(frozen=True)
class Estimate:
    """Workers, the bytes each of them needs at most, and the peak of all."""

    workers: int
    per_worker: int
    whole: int
    """Bytes of whole tensors that the methods ask for, for each worker."""
    maps: int = 0
    """Bytes that tensors keep which are not read as they are stored: which rows go where, say."""
    apart: int = 0
    """Bytes that each worker takes beside its blocks, such as for a process of its own."""
    held: int = 0
    """Bytes that methods keep for their steps, whatever the number of workers."""

    @property
    def peak(self) -> int:
        """Bytes of anonymous memory at the peak, interpreter included."""
        return (
            INTERPRETER + self.maps + self.held + self.workers * (self.per_worker + self.whole + self.apart)
        )


def estimate(
    plan: Plan,
    methods: Mapping[str, MergeMethod[Any]],
    threads: int | None,
    max_memory: int | None,
    apart: int = 0,
) -> Estimate:
    """The memory of `plan` with as many workers as asked for and as fit into `max_memory`.

    apart: bytes that each worker takes beside its blocks.

    Raises:
        MergeError: E405 when not even one worker fits.
    """
    wanted = threads or _processors()
    holds = [_holds(step, methods) for step in plan.steps]
    per_worker = max((blocks_of(step) for step in plan.steps), default=0)
    per_worker += max((worker for _, worker in holds), default=0)
    if any(slot.encoding for slot in plan.layout.slots.values()):
        per_worker += ENCODING * 4 * BLOCK
    held = sum(once for once, _ in holds)
    whole = max((_whole(step, methods) for step in plan.steps), default=0)
    maps = sum(_held(step)[0] for step in plan.steps)
    one = Estimate(1, per_worker, whole, maps, apart, held)
    if max_memory is None:
        return replace(one, workers=wanted)
    if max_memory < one.peak:
        raise MergeError(
            "E405",
            f"the merge needs about {size_text(one.peak)} with one worker, Python and torch included; "
            f"--max-memory allows {size_text(max_memory)}",
            hint="allow more, or merge fewer models at once",
        )
    fitting = (max_memory - INTERPRETER - maps - held) // max(1, per_worker + whole + apart)
    return replace(one, workers=min(wanted, fitting))


def _processors() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def blocks_of(step: Step) -> int:
    """Bytes of one worker while it works on `step`: raw bytes, inputs, base, temporaries, candidates."""
    inputs, width = step.operands, _width(step)
    size = max(min(BLOCK, math.prod(step.shape)), step.shape[-1] if step.shape else 1)
    candidates = len(inputs) * min(CANDIDATES, math.prod(step.shape)) * width
    return size * (2 * width + (len(inputs) + 1 + TEMPORARIES) * width) + candidates + _held(step)[1]


def _width(step: Step) -> int:
    """Bytes of a number that is computed with."""
    return 8 if any(one.tensor.dtype == "F64" for one in step.operands) else 4


def _held(step: Step) -> tuple[int, int]:
    """Bytes that the inputs keep: once, and again for each worker, which works on one input after the other."""
    kept = [one.tensor.data.extra_memory for one in step.everything]
    return sum(once for once, _ in kept), max((each for _, each in kept), default=0)


def _holds(step: Step, methods: Mapping[str, MergeMethod[Any]]) -> tuple[int, int]:
    """Bytes that the method keeps for a step: once, and again for each worker."""
    extra_memory = methods[step.method].extra_memory if step.method else None
    return extra_memory(step) if extra_memory else (0, 0)


def _whole(step: Step, methods: Mapping[str, MergeMethod[Any]]) -> int:
    if step.method is None or not methods[step.method].needs_whole_tensors:
        return 0
    made = sum(one.count for one in step.outputs)
    return (math.prod(step.shape) * len(step.inputs) + made) * _width(step)
