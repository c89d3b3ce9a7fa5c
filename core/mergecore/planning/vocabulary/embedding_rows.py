"""Brings the tensors of all models to the vocabulary of the output: for each of its rows, which stored rows.

Read `Aligner.align`.  A model's own row of a token is always taken; for a token it lacks, or one that the
config forces, there is a common row: what the config says, else the base's, else the mean of all that have it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeAlias

from mergecore.errors import InputError, some
from mergecore.types import MovedRows, RowSource, TensorData, TensorInfo, TensorInput, Vocabulary

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Rows: TypeAlias = npt.NDArray[np.int64]
    Mask: TypeAlias = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Row:
    """A row of the tensors of one model, counted as they are stored."""

    model: int
    row: int


@dataclass(frozen=True)
class TokenRule:
    """Where the common row of a token comes from: nothing for the usual rule, no rows for zero."""

    token: str
    rows: tuple[Row, ...] | None = None
    force: bool = False
    """Every model gets the common row, also those that have the token."""


@dataclass(frozen=True)
class OutputTokens:
    """What is the same for all tensors: the vocabulary, its rules, and how many rows the output gets."""

    vocabulary: Vocabulary
    rules: Mapping[int, TokenRule] = field(default_factory=dict)
    """By id."""
    multiple: int = 1
    """The number of rows is rounded up to a multiple of it."""

    def padded(self, count: int) -> int:
        """The number of rows of the output when there are `count` ids."""
        return -(-count // self.multiple) * self.multiple


class Aligner:
    """Brings the inputs of steps to the rows of the output, and remembers what the user should know about it."""

    def __init__(
        self,
        common: OutputTokens,
        find: Callable[[int, str], TensorInfo | None],
        name_of: Callable[[int], str],
    ) -> None:
        """`find` gives the tensor of a model that has a name, or is tied to it."""
        self.common = common
        self._find = find
        self._name_of = name_of
        self._orphans: dict[int, None] = {}
        self._shrunk: dict[tuple[int, int], str] = {}
        self.aligned = 0
        """How many tensors have been brought to the vocabulary."""

    def align(
        self, name: str, inputs: Sequence[TensorInput], axis: int, lead: int, base: int | None
    ) -> list[TensorInput]:
        """The inputs of the output tensor `name` in its rows along `axis`.

        lead, base: indices into `inputs`; the one whose number of rows is kept where the vocabulary states
        none, and the base of the merge if it is among them.

        Raises:
            InputError: E230 when a token is taken from a tensor of another width, E240 when that has no such
                row.
        """
        self.aligned += 1
        kept = self.common.vocabulary.size is None
        count = inputs[lead].tensor.shape[axis] if kept else self.common.vocabulary.size or 0
        if not kept:
            self._note_size(inputs[lead], axis, self.common.padded(count))
        given = [self._rows_of(one, axis, count) for one in inputs]
        known = [rows for rows in given if rows is not None]
        if len(known) < len(given):
            return list(inputs)  # one is of a vocabulary that nobody knows: shapes have to agree
        own = _stacked(known, count)  # (n, ids)
        common = self._common_rows(name, inputs, axis, own, base)
        wanted = (own < 0) | self._mask(count, force=True)
        return [self._moved(axis, count, one, own[i], wanted[i], common) for i, one in enumerate(inputs)]

    def check_used(self) -> None:
        """Raise E240 when the vocabulary changes and no tensor is known to follow it."""
        vocabulary = self.common.vocabulary
        moved = any(rows is not None and not isinstance(rows, range) for rows in vocabulary.rows)
        if self.aligned or (vocabulary.size is None and not moved):
            return
        what = "no tensor is known to have a row for each token, so the vocabulary cannot change"
        way = "give the models one tokenizer" if vocabulary.size is None else "leave out 'tokenizer'"
        raise InputError("E240", what, hint=f"{way}, or install a plugin that knows the model")

    def warnings(self) -> list[str]:
        """What the user should know about the rows."""
        names = {number: token for token, number in self.common.vocabulary.ids.items()}
        tokens = [names[number] for number in self._orphans if number in names]
        told = list(self._shrunk.values())
        if tokens:
            told.append(
                f"no model has a row for {some(tokens)}: the embeddings are zero unless 'tokens' names a source"
            )
        return told

    def _note_size(self, lead: TensorInput, axis: int, size: int) -> None:
        stored = lead.tensor.shape[axis]
        if size < stored:
            self._shrunk.setdefault(
                (stored, size),
                f"the output has {size} rows for tokens, {self._name_of(lead.model)} has {stored}: rows without "
                f"a token are left out ('pad_to_multiple_of' keeps some; without 'tokenizer' all are kept)",
            )

    def _rows_of(self, one: TensorInput, axis: int, count: int) -> Rows | None:
        """The row of each id of the output in a tensor, -1 for none; None when that is unknown."""
        import numpy as np

        every = self.common.vocabulary.rows
        stated = every[one.model] if every else None
        stored = one.tensor.shape[axis]
        if stated is None:
            return np.arange(count) if stored == count else None
        rows = np.full(count, -1, dtype=np.int64)
        head = np.asarray(stated[:count], dtype=np.int64)
        rows[: len(head)] = np.where(head < stored, head, -1)
        return rows

    def _common_rows(
        self, name: str, inputs: Sequence[TensorInput], axis: int, own: Rows, base: int | None
    ) -> list[RowSource]:
        """The rows for models that lack a token: their mean is what such a model gets."""
        import numpy as np

        count = own.shape[1]
        ruled = self._mask(count, force=False)
        has = own >= 0
        self._orphans |= dict.fromkeys(np.flatnonzero(~has.any(axis=0) & ~ruled).tolist())
        alone = has[base] if base is not None else np.zeros(count, dtype=bool)
        found = []
        seen: set[int] = set()
        for i, one in enumerate(inputs):
            if one.model in seen:
                continue  # a model that is listed twice has one vote
            seen.add(one.model)
            gives = ~ruled & has[i] & (True if i == base else ~alone)
            found.append(RowSource(one.model, one.tensor, np.where(gives, own[i], -1)))
        return [*found, *self._ruled_rows(name, inputs, axis, count)]

    def _ruled_rows(self, name: str, inputs: Sequence[TensorInput], axis: int, count: int) -> list[RowSource]:
        """The rows that the config names as sources of single tokens, by model."""
        import numpy as np

        by_model: dict[int, RowSource] = {}
        for number, rule in self.common.rules.items():
            for one in rule.rows or ():
                source = by_model.get(one.model)
                if source is None:
                    tensor = self._source_tensor(name, one.model, rule, inputs[0], axis)
                    source = by_model[one.model] = RowSource(one.model, tensor, np.full(count, -1))
                self._check_row(source.tensor, axis, one, rule)
                source.rows[number] = one.row
        return list(by_model.values())

    def _source_tensor(
        self, name: str, model: int, rule: TokenRule, like: TensorInput, axis: int
    ) -> TensorInfo:
        tensor = self._find(model, name)
        where = f"token '{rule.token}' is taken from {self._name_of(model)}"
        if tensor is None:
            raise InputError("E240", f"{where}, which has no tensor '{name}'", tensor=name)
        wanted, found = list(like.tensor.shape), list(tensor.shape)
        if (wanted[:axis], wanted[axis + 1 :]) != (found[:axis], found[axis + 1 :]):
            raise InputError("E230", f"{where}, where '{name}' is {found} and not {wanted}", tensor=name)
        return tensor

    def _check_row(self, tensor: TensorInfo, axis: int, one: Row, rule: TokenRule) -> None:
        stored = tensor.shape[axis]
        if one.row >= stored:
            what = (
                f"token '{rule.token}' would be taken from row {one.row} of {self._name_of(one.model)}, where "
                f"'{tensor.name}' has {stored} rows"
            )
            raise InputError("E240", what, tensor=tensor.name, hint="name a token that the model has")

    def _mask(self, count: int, force: bool) -> Mask:
        """The ids that are forced, or whose common row the config names."""
        import numpy as np

        mask = np.zeros(count, dtype=bool)
        for number, rule in self.common.rules.items():
            mask[number] = rule.force if force else rule.rows is not None
        return mask

    def _moved(
        self, axis: int, count: int, one: TensorInput, own: Rows, wanted: Mask, common: Sequence[RowSource]
    ) -> TensorInput:
        """An input in the rows of the output; the same when its rows stay where they are."""
        import numpy as np

        size = self.common.padded(count) if self.common.vocabulary.size is not None else count
        stored = one.tensor.shape[axis]
        if not wanted.any() and size == count == stored and np.array_equal(own, np.arange(count)):
            return one
        mine = np.where(wanted, -1, own)
        others = []
        for source in common:
            rows = np.where(wanted, source.rows, -1)
            if source.model == one.model and source.tensor.name == one.tensor.name:
                mine = np.maximum(mine, rows)
            elif (rows >= 0).any():
                others.append(replace(source, rows=_frozen(rows)))
        sources = (RowSource(one.model, one.tensor, _frozen(mine)), *others)
        return with_data(one, MovedRows(axis, size, count, sources))


def with_data(one: TensorInput, data: TensorData) -> TensorInput:
    """An input whose numbers come from elsewhere."""
    return replace(one, tensor=replace(one.tensor, data=data))


def rows_in_words(rows: MovedRows, name_of: Callable[[int], str]) -> str:
    """How many rows come from where, such as "64 own, 2 of m/b, 14 padding"."""
    import numpy as np

    has = np.stack([source.rows >= 0 for source in rows.sources])  # (sources, aligned)
    alone = has.sum(axis=0) == 1
    counts = {
        "own" if i == 0 else f"of {name_of(source.model)}": int((has[i] & alone).sum())
        for i, source in enumerate(rows.sources)
    }
    counts["means"] = int((has.sum(axis=0) > 1).sum())
    counts["zero"] = int((~has.any(axis=0)).sum())
    counts["padding"] = rows.size - rows.aligned
    return ", ".join(f"{count} {word}" for word, count in counts.items() if count)


def _stacked(rows: Sequence[Rows], count: int) -> Rows:
    import numpy as np

    return np.stack(rows) if rows else np.empty((0, count), dtype=np.int64)


def _frozen(rows: Rows) -> Rows:
    rows.setflags(write=False)
    return rows
