"""Where the tensors of a plan stand and what they are made of; read `Places`."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from mergecore.files import DTYPES, nbytes
from mergecore.models import split_name
from mergecore.types import Checkpoint, OutputTensor, Plan, Step, TensorFacts
from mergecore_plugins.reports.layers import Spot, spot
from mergecore_plugins.reports.words import short_names

_NUMBER = re.compile(r"(?<=\.)[0-9]+(?=\.)")


@dataclass(frozen=True)
class Group:
    """Output tensors that are made alike; numbers of layers and experts in `pattern` are `*`."""

    pattern: str
    shape: tuple[int, ...]
    dtype: str
    how: str
    sources: tuple[int, ...]
    """Models that they are made of."""


@dataclass(frozen=True)
class Account:
    """What becomes of the tensors of a model."""

    tensors: int
    read: int
    """How many are read for the output."""
    left_out: int
    bytes_read: int

    @property
    def other(self) -> int:
        """Those that are neither read nor left out on purpose, which no plan has."""
        return self.tensors - self.read - self.left_out


class Places:
    """The tensors of a plan by their places."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.names = short_names([model.name for model in plan.models])
        """What the page calls the models."""
        descriptions = plan.descriptions
        self._known = descriptions[plan.primary].tensors if descriptions else {}
        prefixes = {stack.prefix for one in descriptions for stack in one.stacks}
        self._prefixes = prefixes | {*plan.layers}

    def facts(self, name: str, role: str = "") -> TensorFacts:
        """What is known of an output tensor; layers beyond those of the primary model are known by their names."""
        if name in self._known:
            return self._known[name]
        parts = split_name(name)
        if parts and parts[0] in self._prefixes:
            return TensorFacts(parts[0], parts[1], parts[2], role=role)
        return TensorFacts(suffix=name, role=role)

    def spot(self, step: Step, name: str) -> Spot:
        """The cell of a picture that an output tensor belongs to."""
        return spot(self.facts(name, step.role), name)

    def suffix(self, name: str) -> str:
        """The name of a tensor within its layer."""
        return self.facts(name).suffix or name

    @cached_property
    def groups(self) -> dict[Group, list[OutputTensor]]:
        """Every output tensor, those that are made alike together."""
        found: dict[Group, list[OutputTensor]] = {}
        for step in self.plan.steps:
            models = tuple(dict.fromkeys(model for one in step.operands for model, _ in one.reads))
            how = step.method or "copied"
            how = f"{how}: {step.note}" if step.note else how
            for one in step.outputs:
                key = Group(_NUMBER.sub("*", one.name), one.shape, one.dtype, how, models)
                found.setdefault(key, []).append(one)
        return found

    @cached_property
    def methods(self) -> Counter[str]:
        """How many tensors each method makes, and how many are copied."""
        return Counter(step.method or "copied" for step in self.plan.steps for _ in step.outputs)

    @cached_property
    def formats(self) -> dict[str, int]:
        """Bytes of output by number format, as torch calls it."""
        found: Counter[str] = Counter()
        for one in self.plan.outputs:
            found[str(DTYPES[one.dtype].torch_name or one.dtype)] += one.nbytes
        return dict(found.most_common())

    @cached_property
    def accounts(self) -> list[Account]:
        """What becomes of the tensors of each model."""
        read: list[dict[str, int]] = [{} for _ in self.plan.models]
        for step in self.plan.steps:
            for one in step.everything:
                for (model, name), origin in zip(one.reads, one.tensor.stored, strict=True):
                    read[model][name] = nbytes(origin.dtype, origin.shape)
        dropped: list[set[str]] = [set() for _ in self.plan.models]
        for left in self.plan.dropped:
            whose = self.plan.models[left.model]
            dropped[left.model] |= {stored for name in left.names for stored in _stored(whose, name)}
        return [_account(model, read[i], dropped[i]) for i, model in enumerate(self.plan.models)]

    def layer_sources(self) -> Iterator[tuple[Spot, int]]:
        """For each layer of the output and each model, the layer of it that is read; where there is one."""
        for step in self.plan.steps:
            for one in step.outputs:
                place = self.spot(step, one.name)
                if place.layer < 0:
                    continue
                for model, name in (read for each in step.operands for read in each.reads):
                    parts = split_name(name)
                    if parts:
                        yield Spot(place.stack, place.layer, self.names[model]), parts[1]


def _stored(model: Checkpoint, name: str) -> Sequence[str]:
    """The stored tensors of one that a model has."""
    return [one.name for one in model.tensors[name].stored] if name in model.tensors else [name]


def _account(model: Checkpoint, read: dict[str, int], dropped: set[str]) -> Account:
    stored = {name for one in model.tensors for name in _stored(model, one)}
    known = {*read} & stored
    return Account(len(stored), len(known), len((dropped & stored) - known), sum(read.values()))
