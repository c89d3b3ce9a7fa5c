"""Which intermediate results are written, and which are computed while they are read; read `chosen`.

What is read more often, or by rows in any order, costs more to compute than to write.
"""

from __future__ import annotations

import math
import pickle
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mergecore.files.dtypes import DTYPES
from mergecore.files.sizes import size_text
from mergecore.planning.before import is_adapter_plan
from mergecore.planning.toolkit import methods_of
from mergecore.plugins.registry import Registry
from mergecore.types import Checkpoint, MergeMethod, MovedRows, Plan, Recipe, Step, Stored, TensorInput

WRITING = 2
"""A byte that is written costs as much as so many that are read."""
SCATTERED, SHIFTED = 64, 2
"""How often a block is made again where rows are read in any order, and where other stretches than blocks are."""


@dataclass(frozen=True)
class Verdict:
    """Whether an intermediate result is computed while it is read, and why."""

    fused: bool
    why: str


def chosen(
    plans: Mapping[str, Plan], models: Mapping[str, Checkpoint], result: Plan, registry: Registry, wish: str
) -> dict[str, Verdict]:
    """For each of `plans`, in their order, which make `models`, whether it is computed while it is read.

    wish: "auto" for what costs less, "always" wherever it can be, "never".
    """
    if wish == "never":
        return {name: Verdict(False, "as --fuse never says") for name in plans}
    uses = _Uses({file.path: name for name, model in models.items() for file in model.weight_files})
    found: dict[str, Verdict] = {}
    uses.count(result, registry, None)
    for name, plan in reversed([*plans.items()]):
        found[name] = _verdict(name, plan, uses, registry, wish)
        uses.count(plan, registry, name if found[name].fused else None)
    return {name: found[name] for name in plans}


def _verdict(name: str, plan: Plan, uses: _Uses, registry: Registry, wish: str) -> Verdict:
    if obstacle := next(_obstacles(plan, registry), None):
        return Verdict(False, obstacle)
    computed, written = _costs(name, plan, uses, registry)
    so, when_written = size_text(computed), size_text(written)
    if computed <= written:
        return Verdict(True, f"it moves {so} so, and {when_written} when written")
    if wish == "always":
        return Verdict(True, f"as --fuse always says; it moves {so} so, and {when_written} when written")
    return Verdict(False, f"it moves {when_written} so, and {so} when computed")


def _obstacles(plan: Plan, registry: Registry) -> Iterator[str]:
    """Why a result cannot be computed while it is read."""
    if is_adapter_plan(plan):
        yield "it is an adapter"
    if plan.recipe and registry.get(Recipe, plan.recipe).finish is not None:
        yield f"the recipe '{plan.recipe}' looks at what is written"
    methods, _ = methods_of(plan, registry)
    for step in plan.steps:
        if len(step.outputs) != 1 or step.matrices or not step.inputs:
            yield f"the step of '{step.name}' is not a merge of tensors alone"
    for name, method in methods.items():
        if method.needs_whole_tensors:
            yield f"{name} needs whole tensors"
        elif not method.result_by:
            yield f"{name} does not make its result block by block"
        elif not _starts_at_once(method, [step for step in plan.steps if step.method == name]):
            yield f"{name} looks at all tensors first"
        elif not _travels(method):
            yield f"{name} is not in a module, so other processes cannot have it"


def _starts_at_once(method: MergeMethod[Any], steps: Sequence[Step]) -> bool:
    """Whether the first tensor can be merged without a look at the others."""
    if method.prepare is None:
        return True
    try:
        return method.prepare(_Untouched([None] * len(steps)), [step.params for step in steps]) is None
    except _Touched:
        return False


class _Touched(Exception):
    """A method wants to see the tensors."""


class _Untouched(list[Any]):
    """The groups of a method, which nobody may look at."""

    def __getitem__(self, index: Any) -> Any:
        raise _Touched

    def __iter__(self) -> Iterator[Any]:
        raise _Touched


def _travels(method: MergeMethod[Any]) -> bool:
    try:
        pickle.dumps(method)
    except Exception:  # noqa: BLE001 - whatever it is that cannot be pickled
        return False
    return True


# ---- costs -------------------------------------------------------------------------------------------------


@dataclass
class _Uses:
    """How the tensors of documents are read; `of`: the document that makes a file of weights."""

    of: Mapping[Path, str]
    reads: dict[str, Counter[str]] = field(default_factory=dict)
    """By document and tensor, how often it is read from end to end."""
    readers: dict[str, Counter[str]] = field(default_factory=dict)
    """The same, how often it is begun to be read: a method may then look at it first."""

    def count(self, plan: Plan, registry: Registry, fused: str | None) -> None:
        """Note what a plan reads; `fused`: its name where it is itself computed while it is read."""
        methods, _ = methods_of(plan, registry)
        for step in plan.steps:
            passes = _passes(step, methods)
            readers = self.readers.get(fused, Counter())[step.name] if fused else 1
            reads = self.reads.get(fused, Counter())[step.name] if fused else 1
            for one in step.everything:
                for name, tensor in self._documents(one):
                    times = reads + (passes - 1) * readers
                    self.reads.setdefault(name, Counter())[tensor] += times * _factor(one)
                    self.readers.setdefault(name, Counter())[tensor] += readers

    def _documents(self, one: TensorInput) -> Iterator[tuple[str, str]]:
        for read in one.tensor.data.reads:
            stored = read.tensor
            if isinstance(stored, Stored) and (name := self.of.get(stored.file)):
                yield name, stored.name


def _factor(one: TensorInput) -> int:
    """How often blocks are made again where a tensor is not read as it is stored."""
    data = one.tensor.data
    if isinstance(data, Stored):
        return 1
    return SCATTERED if isinstance(data, MovedRows) else SHIFTED


def _costs(name: str, plan: Plan, uses: _Uses, registry: Registry) -> tuple[int, int]:
    """What it takes to compute a result while it is read, and to write it and read it, in bytes that are read."""
    methods, _ = methods_of(plan, registry)
    reads, readers = uses.reads.get(name, Counter()), uses.readers.get(name, Counter())
    computed = written = 0
    for step in plan.steps:
        method = methods[step.method] if step.method else None
        passes = _passes(step, methods)
        inputs = sum(_nbytes(one.shape, one.tensor.dtype) for one in step.operands)
        output = _nbytes(step.outputs[0].shape, step.outputs[0].dtype)
        again = SHIFTED if method is not None and method.result_by == "rows" else 1
        computed += inputs * (again * reads[step.name] + (passes - 1) * readers[step.name])
        written += inputs * passes + output * (WRITING + reads[step.name])
    return computed, written


def _passes(step: Step, methods: Mapping[str, MergeMethod[Any]]) -> int:
    return methods[step.method].input_passes if step.method else 1


def _nbytes(shape: Sequence[int], dtype: str) -> int:
    return math.ceil(math.prod(shape) * DTYPES[dtype].bits / 8)
