"""What runs in memory keep for later ones: tensors that would be made the same; read `during`, then `keys_of`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mergecore.types import Checkpoint, Json, Plan, Step

if TYPE_CHECKING:
    from torch import Tensor


@dataclass
class Kept:
    """The tensors of the last run in memory that was given this, for the next one.

    A step of a plan is not carried out again where everything that decides its numbers is as it was: the method and
    its parameters, the inputs, the seed.  Tensors are handed on as they are, so they must not be changed.
    """

    changed: frozenset[str] = frozenset()
    """The names of the tensors that the last run has made anew."""
    _rows: dict[str, _Row] = field(default_factory=dict)
    """By the name that a plan has among several, what it has made."""


@contextmanager
def during(kept: Kept, plan: Plan) -> Iterator[Reuse]:
    """What there is for a run of `plan`, whose tensors are all in `Reuse.tensors` when the `with` ends."""
    part = plan.part.name if plan.part else ""
    reuse = Reuse(plan, kept._rows.get(part, _Row({}, {})))
    yield reuse
    kept._rows[part] = _Row(reuse.keys, reuse.tensors)
    kept.changed = frozenset(reuse.tensors) - reuse.old


@dataclass(frozen=True)
class _Row:
    keys: Mapping[str, str]
    """By the name of a step, what decides its numbers."""
    tensors: Mapping[str, Tensor]


@dataclass
class Reuse:
    """What a run takes over, and then all that it has."""

    plan: Plan
    row: _Row
    keys: Mapping[str, str] = field(default_factory=dict)
    tensors: dict[str, Tensor] = field(default_factory=dict)
    old: frozenset[str] = frozenset()

    def same(self, states: Mapping[str, Json]) -> dict[str, Tensor]:
        """The tensors that need not be made; `states`: by method, what it has prepared."""
        self.keys = keys_of(self.plan, states)
        steps = [step for step in self.plan.steps if self.row.keys.get(step.name) == self.keys[step.name]]
        found = {one.name: self.row.tensors[one.name] for step in steps for one in step.outputs}
        self.old = frozenset(found)
        return found


def keys_of(plan: Plan, states: Mapping[str, Json]) -> dict[str, str]:
    """By the name of a step, a digest of everything that decides its numbers."""
    files = [tuple(_files(model)) for model in plan.models]
    prepared = {method: json.dumps(state, sort_keys=True) for method, state in states.items()}
    places = dict.fromkeys(prepared, 0)
    keys = {}
    for step in plan.steps:
        of_all: tuple[object, ...] = ()
        if step.method in prepared:
            of_all = prepared[step.method], places[step.method]
            places[step.method] += 1
        words = repr((_own(step), plan.seed, [*_inputs(step, files)], of_all))
        keys[step.name] = hashlib.sha256(words.encode()).hexdigest()
    return keys


def _own(step: Step) -> object:
    params = step.params
    said = None if params is None else (type(params).__qualname__, params.model_dump())
    return step.method, said, step.outputs, step.depth, step.role, step.shape, bool(step.base)


def _inputs(step: Step, files: list[tuple[object, ...]]) -> Iterator[object]:
    """Of each tensor that is read for a step: how it is made, of what in which files."""
    for one in step.everything:
        info = one.tensor
        read = [(files[one.model if model is None else model], origin) for origin, model in info.data.reads]
        yield (
            one.model,
            info.name,
            info.dtype,
            info.shape,
            info.identity,
            [
                (
                    of,
                    getattr(origin, "file", None),
                    getattr(origin, "offset", None),
                    origin.name,
                    origin.dtype,
                )
                for of, origin in read
            ],
        )


def _files(model: Checkpoint) -> Iterator[object]:
    """What identifies the files of a model while this process runs."""
    yield model.name, model.revision
    for file in model.weight_files:
        yield str(file.path), file.size, file.header_sha256, file.stamp
    for part in model.parts:
        yield from _files(part)
