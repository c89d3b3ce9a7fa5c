"""Rows that configs name one by one, such as those of a head by its labels, are matched by these names.

Read `RowMeanings.align`.  The output has the config of the primary model, and so its order.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, TypeAlias

from mergecore.errors import InputError, some
from mergecore.models.row_names import LABEL, NUMBERED, Naming, may_have_rows, namings
from mergecore.planning.opened import OpenedModels
from mergecore.planning.side_files.special_ids import generation_config
from mergecore.planning.vocabulary.embedding_rows import with_data
from mergecore.tokenizers.read import TokenizerFiles
from mergecore.types import MovedRows, RowSource, TensorInput

if TYPE_CHECKING:
    Subject: TypeAlias = tuple[str, ...]

TOKENS = ("lang_to_id", "task_to_id")
"""Names of tokens in generation_config.json."""
SHOWN = 4
"""How many names and tensors a message lists."""


class RowMeanings:
    """Compares what the models call their rows, and remembers what the user should know about it."""

    def __init__(self, models: OpenedModels, lenient: bool = False) -> None:
        """`lenient`: rows are taken by position where the names do not fit."""
        self._models = models
        self._lenient = lenient
        self._of = cache(self._read)
        self._told: dict[str, None] = {}
        self._primary_gives = True

    def align(self, name: str, inputs: Sequence[TensorInput]) -> list[TensorInput]:
        """The inputs of the output tensor `name`, their rows in the order of the primary model.

        Raises:
            InputError: E223 when they stand for other things than those of the primary model.
        """
        self._primary_gives = self._models.primary in [one.model for one in inputs]
        for subject in self._subjects(name, inputs):
            leading = self._leading(subject, inputs)
            if leading is not None:
                return [self._aligned(name, one, subject, leading) for one in inputs]
        return list(inputs)

    def warnings(self) -> list[str]:
        """What the user should know about the rows."""
        return [*self._told, *self._astray()]

    def _astray(self) -> Iterator[str]:
        """Where names differ and no tensor is known to have rows for them."""
        primary, ours = self._models.primary, self._of(self._models.primary)
        for model in range(len(self._models.checkpoints)):
            for subject, theirs in self._of(model).items():
                mine = ours.get(subject)
                if model == primary or not mine or not (mine.names and theirs.names):
                    continue
                if mine.tensors or theirs.tensors or _unique(mine.names) == _unique(theirs.names):
                    continue
                if subject[-1] == LABEL and not may_have_rows(self._models.checkpoints[model], theirs.names):
                    continue  # a config that has kept the labels of a head that is no more
                yield (
                    f"{mine.key} of {self._name(primary)} and {self._name(model)} differ, and no tensor is known to "
                    f"have rows with these names: all are merged by position"
                )
            yield from self._differing(model)

    def _differing(self, model: int) -> Iterator[str]:
        """Which parts of a model play a role in generation, where it is not the same in the primary model."""
        one, other = (
            {**checkpoint.config, **generation_config(checkpoint)}
            for checkpoint in (self._models.checkpoints[i] for i in (self._models.primary, model))
        )
        for key in ("alignment_heads", "forced_bos_token_id"):
            ours, theirs = one.get(key), other.get(key)
            if ours is not None and theirs is not None and ours != theirs:
                names = f"{self._name(self._models.primary)} and {self._name(model)}"
                yield f"{key} of {names} differ: that of {self._name(self._models.primary)} is written"

    def _subjects(self, name: str, inputs: Sequence[TensorInput]) -> Iterator[Subject]:
        """What the rows of a tensor are named by, according to any of its models."""
        seen = set()
        for model in (self._models.primary, *(one.model for one in inputs)):
            for subject, naming in self._of(model).items():
                if name in naming.tensors and subject not in seen:
                    seen.add(subject)
                    yield subject

    def _leading(self, subject: Subject, inputs: Sequence[TensorInput]) -> int | None:
        """The primary model if it has names, otherwise the first model that has any."""
        for model in (self._models.primary, *(one.model for one in inputs)):
            naming = self._of(model).get(subject)
            if naming and naming.names:
                return model
        return None

    def _aligned(self, name: str, one: TensorInput, subject: Subject, leading: int) -> TensorInput:
        ours, theirs = self._of(leading)[subject], self._of(one.model).get(subject)
        primary = self._of(self._models.primary).get(subject)
        if primary is None or not primary.names:
            self._tell_unnamed(ours, leading, self._models.primary, written=True)
        if theirs is None or not theirs.names:
            if one.model != self._models.primary:
                self._tell_unnamed(ours, leading, one.model)
            return one
        axis = {**theirs.tensors, **ours.tensors}.get(name, 0)
        count = len(ours.names) if axis == NUMBERED else one.shape[axis]
        order = rows_by_name(ours.names, theirs.names, count)
        if order is None or (
            order and (axis == NUMBERED or isinstance(one.tensor.data, MovedRows) or "transition" in name)
        ):
            return self._unfit(one, ours, theirs, leading)
        return self._moved(one, axis, order, theirs, leading) if order else one

    def _moved(
        self, one: TensorInput, axis: int, order: Sequence[int], theirs: Naming, leading: int
    ) -> TensorInput:
        import numpy as np

        rows = np.array(order, dtype=np.int64)
        rows.setflags(write=False)
        self._told.setdefault(
            f"{theirs.key} of {self._name(one.model)} has the names of {self._name(leading)} in another order: "
            f"the rows of {_listed(theirs.tensors)} are matched by name"
        )
        source = RowSource(one.model, one.tensor, rows)
        return with_data(one, MovedRows(axis, len(rows), len(rows), (source,)))

    def _unfit(self, one: TensorInput, ours: Naming, theirs: Naming, leading: int) -> TensorInput:
        left, right = set(_unique(ours.names).values()), set(_unique(theirs.names).values())
        ones, others = self._name(leading), self._name(one.model)
        tensors = list({**theirs.tensors, **ours.tensors})
        only = [
            f"only {who} has {some([names[i] for i in names if plain[i] not in other], SHOWN)}"
            for who, names, plain, other in (
                (ones, ours.names, _unique(ours.names), right),
                (others, theirs.names, _unique(theirs.names), left),
            )
            if set(plain.values()) - other
        ]
        told = "; ".join(only) or "the names are the same, in another order that cannot be followed here"
        what = f"{theirs.key} of {ones} and {others} gives the rows of {_listed(tensors)} different meanings: {told}"
        if self._lenient:
            self._told.setdefault(f"{what}; they are merged by position")
            return one
        modules = dict.fromkeys(
            f"glob:{name.rpartition('.')[0]}.*" if "." in name else name for name in tensors
        )
        way = f"'exclude: {json.dumps(list(modules))}' keeps those of the base, or else of the first model"
        if not self._primary_gives:
            way = "leave out 'base_model', whose config would be written"
        hint = f"{way}; where two names mean the same, write one of them into both config.json"
        raise InputError("E223", what, hint=hint)

    def _tell_unnamed(self, ours: Naming, leading: int, model: int, written: bool = False) -> None:
        who = self._name(model)
        end = "its config is written" if written else "they are merged by position"
        self._told.setdefault(
            f"{ours.key} of {self._name(leading)} names the rows of {_listed(ours.tensors)} "
            f"({some(list(ours.names.values()), SHOWN)}), and {who} does not say what its rows mean: {end}"
        )

    def _read(self, model: int) -> Mapping[Subject, Naming]:
        checkpoint = self._models.checkpoints[model]
        further = generation_config(checkpoint)
        if TokenizerFiles(checkpoint).main:  # ids of tokens follow the vocabulary
            further = {key: value for key, value in further.items() if key not in TOKENS}
        return namings(checkpoint, self._models.descriptions[model], further)

    def _name(self, model: int) -> str:
        return self._models.checkpoints[model].name


def rows_by_name(ours: Mapping[int, str], theirs: Mapping[int, str], count: int) -> list[int] | None:
    """For each of `count` rows in our order their row; none at all where the order is the same.

    None when the names are others.  Rows after the named ones stay where they are.
    """
    one, other = _unique(ours), _unique(theirs)
    if one == other:
        return []
    places = {name: number for number, name in other.items()}
    if {*one.values()} != places.keys() or max(*one, *other) >= count:
        return None
    free = [number for number in range(count) if number not in other]
    rest = iter(free)
    return [places[one[number]] if number in one else next(rest) for number in range(count)]


def _unique(names: Mapping[int, str]) -> dict[int, str]:
    """Names as they are compared, without case and marks; of one that is there twice, each in its turn."""
    plain = {number: re.sub(r"[\s_-]+", " ", names[number]).strip().casefold() for number in sorted(names)}
    if len(set(plain.values())) < len(names):
        plain = {number: names[number] for number in plain}
    seen: Counter[str] = Counter()
    for number, name in plain.items():
        seen[name] += 1
        plain[number] = name if seen[name] == 1 else f"{name} ({seen[name]})"
    return plain


def _listed(tensors: Mapping[str, int] | Sequence[str]) -> str:
    return some(list(tensors), SHOWN)
