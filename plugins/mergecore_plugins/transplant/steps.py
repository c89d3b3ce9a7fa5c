"""One step for each tensor of the model: those with a row for each token get the donor's rows, others are copied.

Read `Surgery.steps`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from mergecore.errors import Collector, InputError, counted
from mergecore.files import DTYPES, MERGEABLE
from mergecore.types import (
    Checkpoint,
    Description,
    MovedRows,
    OutputTensor,
    RowSource,
    Step,
    TensorInfo,
    TensorInput,
)
from mergecore_plugins.transplant.document import Transplant
from mergecore_plugins.transplant.methods import BY_DONOR
from mergecore_plugins.transplant.tokens.counterparts import Counterparts, Texts
from mergecore_plugins.transplant.tokens.pieces import Cutter

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Rows = npt.NDArray[np.int64]

FEW = 0.05
"""The share of tokens in common below which the user should know about it."""


@dataclass(frozen=True)
class Pair:
    """The model and the donor, opened and described."""

    model: Checkpoint
    donor: Checkpoint
    description: Description
    donor_description: Description

    @property
    def stored(self) -> int:
        """The rows for tokens that the model has.

        Raises:
            InputError: E240 when no tensor is known to have any.
        """
        tensors = self.model.tensors
        found = [tensors[name].shape[axis] for name, axis in self.axes.items()]
        if not found:
            what = "no tensor is known to have a row for each token, so the vocabulary cannot change"
            raise InputError(
                "E240", what, place=self.model.name, hint="install a plugin that knows the model"
            )
        return max(found)

    @property
    def axes(self) -> dict[str, int]:
        """The axis of tokens of each tensor of the model that has one."""
        facts = self.description.tensors
        return {
            name: axis for name in self.model.tensors if (axis := facts[name].vocabulary_axis) is not None
        }

    def donor_matrix(self, head: bool) -> TensorInfo | None:
        """The head of the donor, or its embeddings if it has no head or these are asked for."""
        found: dict[str, TensorInfo] = {}
        for name, one in self.donor.tensors.items():
            facts = self.donor_description.tensors[name]
            if facts.vocabulary_axis == 0 and len(one.shape) == 2:
                found.setdefault("head" if facts.role == "head" else "embed", one)
        return (found.get("head") if head else None) or found.get("embed")


@dataclass(frozen=True)
class Surgery:
    """Everything that is known before a weight is read."""

    pair: Pair
    asked: Transplant
    mine: Texts
    theirs: Texts
    found: Counterparts
    cutter: Cutter | None
    beyond: dict[str, int] = field(default_factory=dict)
    """By name of a matrix of the donor, how many tokens have no row there."""

    def steps(self) -> list[Step]:
        """The steps, in the order of the model's tensors.

        Raises:
            InputError: E233 and E240 for tensors that cannot follow the vocabulary, all together.
        """
        problems = Collector()
        steps = []
        for name, tensor in self.pair.model.tensors.items():
            with problems.collecting():
                axis = self.pair.axes.get(name)
                steps.append(self._copied(tensor) if axis is None else self._moved(tensor, axis))
        problems.raise_any()
        return steps

    def warnings(self) -> Iterator[str]:
        """What the user should know about the rows."""
        shared, tokens, asked = self.found.shared, self.found.tokens, self.asked
        if shared < FEW * tokens:
            yield f"only {shared} of the {tokens} tokens of {self.pair.donor.name} are in {self.pair.model.name}"
        if asked.method in ("omp", "common_interpolation") and (most := self._most()) < asked.k:
            yield f"k is {most} and not {asked.k}: there are no more shared tokens, or no more columns in the donor"
        for name, count in self.beyond.items():
            held = f"{counted(count, 'token')} of {self.pair.donor.name}"
            yield f"{held} without a row in '{name}' {'gets' if count == 1 else 'get'} the mean row"

    def _most(self) -> int:
        donor = self.pair.donor_matrix(head=False)
        columns = donor.shape[1] if donor and self.asked.method == "omp" else self.asked.k
        return min(self.found.shared, columns)

    @property
    def size(self) -> int:
        """The rows of the output, padding included."""
        multiple = self.asked.pad_to_multiple_of or 1
        return -(-len(self.found.rows) // multiple) * multiple

    def _copied(self, tensor: TensorInfo) -> Step:
        role = self.pair.description.tensors[tensor.name].role
        made = OutputTensor(tensor.name, tensor.dtype, tensor.shape)
        return Step((made,), (TensorInput(0, tensor),), role=role)

    def _moved(self, tensor: TensorInfo, axis: int) -> Step:
        name, role = tensor.name, self.pair.description.tensors[tensor.name].role
        if tensor.dtype not in MERGEABLE:
            what = f"{self.pair.model.name}: tensor '{name}' is {tensor.dtype}, and its rows have to be moved"
            raise InputError("E233", what, tensor=name, hint=f"convert it to one of {', '.join(MERGEABLE)}")
        own = self._rows(0, tensor, self._own(tensor.shape[axis]), axis)
        shape = own.shape
        made = OutputTensor(name, tensor.dtype, shape)
        if len(tensor.shape) == 1:
            note = f"{self._told()}; 0 for the others"
            return Step((made,), (own,), role=role, note=note)
        if axis or len(shape) != 2:
            what = f"'{name}' is {list(tensor.shape)} with its tokens along axis {axis}; a row for each is needed"
            raise InputError("E240", what, tensor=name, hint="install a plugin that knows the model")
        return Step(
            outputs=(made,),
            inputs=(own,),
            method=self.asked.method,
            params=self.asked.params,
            role=role,
            note=f"{self._told()}; the others by {self.asked.method}",
            matrices=(self._tokens(tensor), own, *self._further(tensor, role)),
        )

    def _told(self) -> str:
        found = self.found
        return (
            f"{found.shared} of {found.tokens} tokens keep their rows ({found.same} are spelled the same, "
            f"{found.by_text} have the same text, {found.by_role} the same part)"
        )

    def _own(self, stored: int) -> Rows:
        """The model's row of each id of the output."""
        import numpy as np

        rows = np.full(self.size, -1, dtype=np.int64)
        found = self.found.rows
        rows[: len(found)] = np.where(found < stored, found, -1)
        return rows

    def _tokens(self, tensor: TensorInfo) -> TensorInput:
        """The model's rows of its own tokens."""
        import numpy as np

        ids = np.array(sorted(self.mine.table.ids.values()), dtype=np.int64)
        return self._rows(0, tensor, ids[ids < tensor.shape[0]])

    def _further(self, tensor: TensorInfo, role: str) -> Iterator[TensorInput]:
        """What the method reads besides: rows of the donor and of shared tokens in both, or of pieces."""
        import numpy as np

        own = self._own(tensor.shape[0])
        if self.cutter:
            yield self._rows(0, tensor, self._pieces(own, tensor.shape[0]))
        if self.asked.method not in BY_DONOR:
            return
        theirs = self._donor(tensor, role)
        stored = theirs.shape[0]
        targets, ids = np.full(self.size, -1, dtype=np.int64), self._ids
        targets[ids] = np.where(ids < stored, ids, -1)
        shared = np.flatnonzero((own >= 0) & (targets >= 0))
        if lost := int(((ids >= stored) & (own[ids] < 0)).sum()):
            self.beyond[theirs.name] = lost
        yield self._rows(1, theirs, np.where(own >= 0, -1, targets))
        yield self._rows(0, tensor, own[shared])
        yield self._rows(1, theirs, targets[shared])

    def _donor(self, tensor: TensorInfo, role: str) -> TensorInfo:
        tied = bool(self.pair.model.config.get("tie_word_embeddings"))
        theirs = self.pair.donor_matrix(head=role == "head" and not tied)
        if theirs is None:
            what = f"no matrix of {self.pair.donor.name} is known to hold its embeddings, which '{tensor.name}' needs"
            raise InputError("E240", what, tensor=tensor.name, hint="use the method subword, or mean")
        if theirs.dtype not in MERGEABLE or not DTYPES[theirs.dtype].floating:
            what = (
                f"{self.pair.donor.name}: tensor '{theirs.name}' is {theirs.dtype}, which cannot be compared"
            )
            raise InputError(
                "E233", what, tensor=theirs.name, hint=f"convert it to one of {', '.join(MERGEABLE)}"
            )
        return theirs

    @cached_property
    def _ids(self) -> Rows:
        """The ids of the donor's tokens, ascending."""
        import numpy as np

        return np.array(sorted(self.theirs.table.ids.values()), dtype=np.int64)

    def _pieces(self, own: Rows, stored: int) -> Rows:
        """The rows of the pieces of each token to make, those of one up to a -1."""
        import numpy as np

        rows: list[int] = []
        names = {number: token for token, number in self.theirs.table.ids.items()}
        for number in range(self.size):
            if own[number] < 0 and number in names:
                rows += self._cut(names[number], stored)
            rows.append(-1)
        return np.array(rows, dtype=np.int64)

    def _cut(self, token: str, stored: int) -> list[int]:
        assert self.cutter is not None
        text = self.theirs.ordinary.get(token, token.encode())
        return [piece for piece in self.cutter.pieces(text) if piece < stored]

    def _rows(self, model: int, tensor: TensorInfo, rows: Rows, axis: int = 0) -> TensorInput:
        """Rows of a tensor as an input."""
        rows.setflags(write=False)
        data = MovedRows(axis, len(rows), len(rows), (RowSource(model, tensor, rows),))
        return TensorInput(model, TensorInfo(tensor.name, data))
