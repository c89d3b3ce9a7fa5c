"""What is wrong with the steps of a recipe, and what no step reads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from mergecore.files.dtypes import DTYPES
from mergecore.types import Checkpoint, Dropped, Step


def faults(models: Sequence[Checkpoint], steps: Sequence[Step]) -> Iterator[str]:
    """What is wrong with steps, whatever they compute."""
    if not all(step.outputs for step in steps):
        yield "a step makes no tensor"
        return
    for name, count in Counter(one.name for step in steps for one in step.outputs).items():
        if count > 1:
            yield f"tensor '{name}' is made {count} times"
    for step in steps:
        yield from _of_step(step, len(models))


def _of_step(step: Step, models: int) -> Iterator[str]:
    for made in step.outputs:
        if made.dtype not in DTYPES:
            yield f"step '{step.name}' makes {made.dtype}, which is not a dtype"
    if step.method is None and len(step.outputs) > 1:
        yield f"step '{step.name}' has no method, so it can make one tensor only"
    elif step.method is None and [one.shape for one in step.inputs] != [step.outputs[0].shape]:
        shape = list(step.outputs[0].shape)
        yield f"step '{step.name}' has no method, so it must have one input, of the shape {shape}"
    if len({one.shape for one in step.operands}) > 1:
        yield f"step '{step.name}' has inputs of different shapes: those beside the first belong into `matrices`"
    for one in step.everything:
        if not 0 <= one.model < models:
            yield f"step '{step.name}' reads model {one.model}, and there are {models}"


def unread(
    models: Sequence[Checkpoint], steps: Sequence[Step], reasons: Mapping[int, str]
) -> Iterator[Dropped]:
    """The stored tensors that no step reads."""
    used = {read for step in steps for one in step.everything for read in one.reads}
    for index, model in enumerate(models):
        stored = dict.fromkeys(one.name for tensor in model.tensors.values() for one in tensor.stored)
        if rest := tuple(name for name in stored if (index, name) not in used):
            yield Dropped(index, rest, reasons.get(index, "the recipe does not use it"))
