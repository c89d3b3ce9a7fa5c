"""Goes through a merged model beside what it was made of, once and in bounded memory; read `traced`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mergecore import open_tensors
from mergecore.files import MERGEABLE
from mergecore.types import Checkpoint, Plan, Step, TensorFacts, TensorInput
from mergecore_plugins.look.merged.sums import Sums
from mergecore_plugins.look.pairs import Pair, chunks
from mergecore_plugins.reports.plans.places import Places

if TYPE_CHECKING:
    from mergecore.types import Matrix

ENTRIES = 1 << 21
"""Numbers in float64 that a thread holds at a time."""


@dataclass(frozen=True)
class Votes:
    """How often the parents' changes of an entry agree; `+` joins those of several tensors."""

    changed: int = 0
    """Entries that any parent changed, once rounded to the coarser of its format and that of the base."""
    shared: int = 0
    """Entries that at least two parents changed."""
    opposed: int = 0
    """How many of these some parent raised and some other lowered."""

    def __add__(self, other: Votes) -> Votes:
        return Votes(self.changed + other.changed, self.shared + other.shared, self.opposed + other.opposed)

    @property
    def conflict(self) -> float | None:
        """The share of entries with opposite signs, of those that at least two parents changed."""
        return self.opposed / self.shared if self.shared else None


@dataclass(frozen=True)
class Traced:
    """A tensor that was merged, beside what it was made of."""

    name: str
    shape: tuple[int, ...]
    facts: TensorFacts
    parents: tuple[int, ...]
    """Models that it was made of, the base left out where it is known."""
    apart: tuple[Pair, ...]
    """Each parent, and the result."""
    moved: Pair | None = None
    """The base, and the result."""
    parents_moved: tuple[Pair, ...] = ()
    """The base, and each parent."""
    changes: tuple[Pair, ...] = ()
    """The change that each parent made to the base, and that of the result."""
    votes: Votes | None = None


@dataclass(frozen=True)
class Trace:
    """What was found in a merged model."""

    models: tuple[str, ...]
    tensors: tuple[Traced, ...]
    skipped: Mapping[str, str]
    """Tensors that were not compared, and why."""


def traced(plan: Plan, result: Checkpoint, threads: int) -> Trace:
    """Compare every merged tensor with what it was made of; each input is read once.

    result: what the plan made.

    Raises:
        InputError: E233 to E236, when a model has changed since, or cannot be read.
    """
    skipped = {one.name: why for step in plan.steps for one in step.outputs if (why := _unlike(step, result))}
    steps = [step for step in plan.steps if step.name not in skipped]
    reads = {
        f"{step.name}/{i}": one
        for step in steps
        for i, one in enumerate((*step.operands, TensorInput(len(plan.models), result.tensors[step.name])))
    }
    places = Places(plan)
    with (
        open_tensors([*plan.models, result], reads, allow_nonfinite=True) as opened,
        ThreadPoolExecutor(threads) as pool,
    ):
        from mergecore.compute import one_thread_each

        def measure(step: Step) -> Traced:
            each = [opened[f"{step.name}/{i}"] for i in range(len(step.operands) + 1)]
            dtypes = [*(one.tensor.dtype for one in step.operands), result.tensors[step.name].dtype]
            return _traced(step, places.facts(step.name, step.role), each, dtypes)

        with one_thread_each():
            found = tuple(pool.map(measure, steps))
    broken = {one.name: "there are numbers that are not finite" for one in found if not _finite(one)}
    kept = tuple(one for one in found if one.name not in broken)
    return Trace(tuple(places.names), kept, skipped | broken)


def _unlike(step: Step, result: Checkpoint) -> str:
    """Why a tensor is not compared; empty where it is."""
    made = result.tensors.get(step.name)
    if step.method is None:
        return "copied" + (f": {step.note}" if step.note else "")
    if len(step.outputs) > 1 or made is None:
        return "it is not written by itself"
    if any(one.shape != made.shape for one in step.operands):
        return "it is made of tensors of another shape"
    formats = {made.dtype, *(one.tensor.dtype for one in step.operands)} - {*MERGEABLE}
    return f"{'/'.join(sorted(formats))} is not compared" if formats else ""


def _traced(step: Step, facts: TensorFacts, each: Sequence[Matrix], dtypes: Sequence[str]) -> Traced:
    with_base = step.base is not None
    sums = Sums(dtypes, with_base)
    for numbers in chunks(each, ENTRIES // (2 * len(each) + 4)):
        sums.add(numbers)
    parents = range(sums.parents)
    return Traced(
        step.name,
        step.outputs[0].shape,
        facts,
        tuple(one.model for one in step.inputs),
        tuple(map(sums.apart, parents)),
        sums.moved() if with_base else None,
        tuple(map(sums.parent_moved, parents)) if with_base else (),
        tuple(map(sums.change, parents)) if with_base else (),
        Votes(sums.changed_by_any, sums.shared, sums.opposed) if with_base else None,
    )


def _finite(one: Traced) -> bool:
    sums = [*one.apart, *one.parents_moved, *((one.moved,) if one.moved else ())]
    return all(math.isfinite(each.delta + each.first + each.second) for each in sums)
