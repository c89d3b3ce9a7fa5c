"""Sums over the task vectors of all models of a config, read once and in bounded memory; read `task_vector_sums`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from mergecore.errors import ConfigError
from mergecore.types import PolicyRequest, Step

if TYPE_CHECKING:
    from torch import Tensor

    from mergecore.types import Matrix

CHUNK = 1 << 19
"""Entries that are looked at at a time, of each model, in float64."""


def check_weights(request: PolicyRequest, policy: str) -> None:
    """Raise E105 unless the method adds weighted task vectors to a base."""
    method = request.method
    if not (method.space == "delta" and method.base == "required" and "weight" in method.params.model_fields):
        what = f"{policy} chooses weights of task vectors, which {method.name} does not have"
        hint = "use a method such as task_arithmetic or ties, with a base_model"
        raise ConfigError("E105", what, hint=hint)


def task_vector_sums(
    request: PolicyRequest, measure: Callable[[Step, Sequence[Tensor]], Sequence[float]]
) -> list[float]:
    """The sums over the whole model of what `measure` returns for a stretch of the task vectors, float64.

    measure: gets the step of a tensor, and rows of each model's difference to the base.  Sums are added in the order
        of the plan, so that they do not depend on threads.

    Raises:
        InputError: E234 to E236, when numbers cannot be read, or are not finite.
    """
    plan = request.plan
    steps = [step for step in plan.steps if step.method == request.method.name and step.base]
    reads = {f"{place}/{i}": one for place, step in enumerate(steps) for i, one in enumerate(step.operands)}
    from mergecore import open_tensors
    from mergecore.compute import one_thread_each

    with open_tensors(plan.models, reads) as opened, ThreadPoolExecutor(os.cpu_count()) as pool:

        def of_step(place: int) -> list[Sequence[float]]:
            step = steps[place]
            each = [opened[f"{place}/{i}"] for i in range(len(step.operands))]
            found = [measure(step, [one - base for one in models]) for *models, base in _chunks(each)]
            for one in each:
                one.raise_faults()
            return found

        with one_thread_each():
            rows = [row for found in pool.map(of_step, range(len(steps))) for row in found]
    return [sum(column) for column in zip(*rows, strict=True)]


def _chunks(each: Sequence[Matrix]) -> Iterator[list[Tensor]]:
    """The same rows of every matrix, float64."""
    import torch

    shape = each[0].shape
    rows, columns = (shape[0] if shape else 1), 1
    for one in shape[1:]:
        columns *= one
    step = max(1, CHUNK // max(1, columns))
    for begin in range(0, rows, step):
        yield [one.read(begin, min(begin + step, rows), torch.float64) for one in each]
