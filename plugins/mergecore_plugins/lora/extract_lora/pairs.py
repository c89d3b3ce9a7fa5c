"""The tensors of the fine-tune by their names in the loaded model, each with what it was in the base.

Read `Pairs`; `find_pairs` makes it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from mergecore.errors import Collector, InputError, some
from mergecore.types import Checkpoint, Json, Loaded, LoadedModule, Planner, TensorInfo


@dataclass(frozen=True)
class Pair:
    """A tensor of the fine-tune, and the same of the base where that has it in the same shape."""

    name: str
    """Its name in the model."""
    role: str
    now: TensorInfo
    before: TensorInfo | None

    @property
    def module(self) -> str:
        """The module that it belongs to."""
        return self.name.rpartition(".")[0]


@dataclass(frozen=True)
class Pairs:
    """What there is to extract from."""

    config: Mapping[str, Json]
    """That of the fine-tune."""
    modules: Mapping[str, LoadedModule]
    pairs: Mapping[str, Pair]
    ties: Mapping[str, str]
    """Names without a tensor in the fine-tune, and the one that they are, which the base ties, too."""
    resized: tuple[int, int] | None = None
    """Rows for tokens of base and fine-tune, where these differ."""

    @cached_property
    def outer(self) -> frozenset[str]:
        """The names of all modules, those without parameters of their own included."""
        found = set()
        for name in self.modules:
            words = name.split(".")
            found |= {".".join(words[:count]) for count in range(1, len(words) + 1)}
        return frozenset(found)

    def within(self, module: str) -> Iterator[Pair]:
        """The tensors of a module and of those in it."""
        for name, pair in self.pairs.items():
            if name.startswith(f"{module}."):
                yield pair


def find_pairs(now: Checkpoint, before: Checkpoint, planner: Planner) -> Pairs:
    """The tensors of both models, by their names in that of the fine-tune.

    Raises:
        InputError: E230 for tensors of other shapes, E231 where too little of the base is in the fine-tune.
    """
    loaded, other, ties = planner.loaded(now), planner.loaded(before, now), planner.loaded(before).ties
    roles = planner.describe(now).tensors
    found = _Finder(loaded, other, ties, now, before)
    pairs = {}
    problems = Collector()
    for name, tensor in loaded.tensors.items():
        role = next((roles[one.name].role for one in tensor.stored if one.name in roles), "")
        with problems.collecting():
            pairs[name] = Pair(name, role, tensor, found.before(name, tensor, role))
    for name, source in loaded.ties.items():
        if name in other.tensors and source in pairs:  # only the fine-tune has them tied
            tensor = loaded.tensors[source]
            pairs[name] = Pair(name, "head", tensor, found.before(name, tensor, "head"))
    problems.raise_any()
    shared = [pair for pair in pairs.values() if pair.before]
    if (
        sum(one.now.count for one in shared) < sum(one.now.count for one in pairs.values()) / 2
        and not found.rows
    ):
        absent = some(sorted(name for name, one in pairs.items() if one.before is None))
        what = f"{now.name} is not a fine-tune of {before.name}, which has no {absent}"
        raise InputError("E231", what, hint="name the model that the fine-tune was trained from")
    kept = {name: one for name, one in loaded.ties.items() if name not in other.tensors}
    return Pairs(now.config, loaded.modules, pairs, kept, found.rows)


class _Finder:
    def __init__(
        self, loaded: Loaded, other: Loaded, ties: Mapping[str, str], now: Checkpoint, before: Checkpoint
    ) -> None:
        self._loaded, self._other, self._ties = loaded, other, ties
        self._now, self._before = now, before
        self.rows: tuple[int, int] | None = None

    def before(self, name: str, tensor: TensorInfo, role: str) -> TensorInfo | None:
        """What a tensor was."""
        found = self._other.tensors.get(name) or self._other.tensors.get(self._ties.get(name, ""))
        if found is None or found.shape == tensor.shape:
            return found
        if found.shape[1:] == tensor.shape[1:] and role.startswith(("embed", "head")):
            if role in ("embed", "head"):
                self.rows = (found.shape[0], tensor.shape[0])
            return None
        shapes = f"{self._now.name} {list(tensor.shape)}, {self._before.name} {list(found.shape)}"
        hint = "a fine-tune has the shapes of its base: name the one that it was trained from"
        raise InputError("E230", f"shapes differ for '{name}': {shapes}", tensor=name, hint=hint)
