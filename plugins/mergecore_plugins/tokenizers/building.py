"""What the strategies `base`, `union` and `model` share: one vocabulary for all, and every model's rows of it.

Read `build`; before it, `tables` reads the vocabulary of each model, and refuses what no tensor can follow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from mergecore import Checkpoint, Field, Params
from mergecore.errors import Collector, some
from mergecore.tokenizers import compare
from mergecore.types import Description, Rows, TokenizerRequest, TokenTable, Vocabulary
from mergecore_plugins.tokenizers.tokenizer_json import PLAIN, NewToken, cannot_be_read, edited_files

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


class AlignParams(Params):
    """Parameters of the strategies that align vocabularies."""

    compat: Literal["mergekit"] | None = Field(
        default=None,
        description="do as mergekit: trust models without tokenizer, leave out ids beyond the rows",
    )


@dataclass(frozen=True)
class Tables:
    """The vocabularies of the merged models, those of models that have none being the base's."""

    stated: tuple[TokenTable, ...]
    """As the files have them."""
    tables: tuple[TokenTable, ...]
    """The same without tokens whose ids are beyond the rows of the tensors of their model."""
    lost: Mapping[int, tuple[str, ...]]
    """By model, these tokens."""
    strict: bool
    """The output has none of the tokens that its model has no row for, whatever others have."""
    warnings: tuple[str, ...]

    def own(self, model: int) -> tuple[TokenTable, tuple[str, ...]]:
        """The vocabulary of a model as the output may have it, and the tokens that had to be taken out.

        A token without a row stays if another model has a row for it, or if it is not part of ordinary text:
        text must not be cut into tokens that no model knows.
        """
        table, lost = self.stated[model], self.lost.get(model, ())
        held = {token for token in lost if any(token in other.ids for other in self.tables)}
        removed = tuple(
            token for token in lost if self.strict or (token not in table.special and token not in held)
        )
        if not removed:
            return table, ()
        gone = set(removed)
        kept = {token: number for token, number in table.ids.items() if token not in gone}
        return replace(table, ids=kept), removed

    def told(self, models: Sequence[Checkpoint], ids: Mapping[str, int]) -> tuple[str, ...]:
        """What to say about tokens without rows when the output has the tokens `ids`."""
        told = []
        for model, lost in self.lost.items():
            left = [token for token in lost if token not in ids]
            taken = [token for token in lost if any(token in other.ids for other in self.tables)]
            facts = [f"{some(left)}: left out"] if left else []
            taken = [token for token in taken if token in ids]
            facts += [f"{some(taken)}: those of other models count"] if taken else []
            if facts:
                told.append(f"{models[model].name} has no rows for {'; for '.join(facts)}")
        return tuple(told)


def tables(request: TokenizerRequest, params: AlignParams, lenient: bool = False) -> Tables:
    """The vocabularies of the models.

    lenient: a model without a tokenizer that has as many rows as the base is taken to share its vocabulary.

    Raises:
        MergecoreError: E240 for a model without tokenizer.
    """
    problems = Collector()
    found: list[TokenTable] = []
    inside: list[TokenTable] = []
    lost: dict[int, tuple[str, ...]] = {}
    warnings: list[str] = []
    base = read_needed(request, request.models[request.primary])
    for number, (model, description) in enumerate(zip(request.models, request.descriptions, strict=True)):
        with problems.collecting():
            table = request.read(model)
            if table is None:
                _check_trusted(request, number, params, lenient)
                warnings.append(
                    f"{model.name} has no tokenizer; it is taken to have the vocabulary of the base"
                )
                table = base
            found.append(table)
            kept, beyond = _within_rows(model, description, table)
            inside.append(kept)
            if beyond:
                lost[number] = beyond
    problems.raise_any()
    return Tables(tuple(found), tuple(inside), lost, params.compat is not None, tuple(warnings))


def table_rows(model: Checkpoint, description: Description) -> int | None:
    """The rows of the largest tensor that has one for each token; None when no such tensor is known."""
    axes = {name: facts.vocabulary_axis for name, facts in description.tensors.items()}
    rows = [model.tensors[name].shape[axis] for name, axis in axes.items() if axis is not None]
    return max(rows, default=None)


def read_needed(request: TokenizerRequest, model: Checkpoint) -> TokenTable:
    """The vocabulary of a model that must have one; raises E240 when it has none."""
    table = request.read(model)
    if table is None:
        hint = "put its tokenizer files there, or name another model as the source of the vocabulary"
        raise cannot_be_read(model, "and the output should have its vocabulary", hint)
    return table


def build(
    request: TokenizerRequest,
    known: Tables,
    owner: Checkpoint,
    own: TokenTable,
    further: Sequence[NewToken] = (),
    removed: Sequence[str] = (),
) -> Vocabulary:
    """The vocabulary `own` of `owner` with `further` tokens and those that the request wants.

    Raises:
        InputError: E240 when the files of the owner cannot be changed so.
    """
    ids = {**own.ids, **{token.text: token.id for token in further}}
    asked = _asked(request, ids)
    ids |= {token.text: token.id for token in asked}
    size = max(ids.values(), default=-1) + 1
    gaps = sorted(set(range(size)) - set(ids.values())) if len(ids) < size else []
    rows: list[Rows | None] = [
        rows_by_name(table, ids, size, gaps if stated.ids.items() >= own.ids.items() else [])
        for table, stated in zip(known.tables, known.stated, strict=True)
    ]
    for model in request.token_models:
        table = request.read(model)
        rows.append(rows_by_name(table or _NOTHING, ids, size, []))
    return Vocabulary(
        files=edited_files(owner, [*further, *asked], removed),
        rows=tuple(rows),
        ids=ids,
        size=size,
        source=None if owner is request.models[request.primary] else owner,
        warnings=(*known.warnings, *known.told(request.models, ids)),
    )


def differences(request: TokenizerRequest, known: Tables, own: TokenTable) -> tuple[str, ...]:
    """What to say about models whose vocabulary is another than `own`, the one that the output has or follows."""
    told = []
    for model, table in zip(request.models, known.stated, strict=True):
        if table is not own and (found := compare(own, table)).differing:
            counts = found.told("the output", model.name)
            told.append(
                f"the vocabulary of {model.name} differs from that of the output: {counts}; rows of tokens it "
                f"lacks are those of the other models, tokens that only it has are left out"
            )
    return tuple(told)


def rows_by_name(
    table: TokenTable, ids: Mapping[str, int], size: int, gaps: Sequence[int]
) -> npt.NDArray[np.int64]:
    """The row that a model has for each id of the output, -1 for none; ids without a token keep theirs."""
    import numpy as np

    rows = np.full(size, -1, dtype=np.int64)
    own = table.ids
    numbers = np.fromiter(ids.values(), dtype=np.int64, count=len(ids))
    rows[numbers] = np.fromiter((own.get(token, -1) for token in ids), dtype=np.int64, count=len(ids))
    rows[gaps] = gaps
    return rows


_NOTHING = TokenTable("", "", {}, {}, frozenset())


def _asked(request: TokenizerRequest, ids: Mapping[str, int]) -> list[NewToken]:
    """The tokens that the config asks for and no model has, with the next free ids."""
    start = max(ids.values(), default=-1) + 1
    fresh = [token for token in request.tokens if token not in ids]
    return [NewToken(token, start + number, PLAIN) for number, token in enumerate(fresh)]


def _check_trusted(request: TokenizerRequest, number: int, params: AlignParams, lenient: bool) -> None:
    model, base = request.models[number], request.models[request.primary]
    counts = [table_rows(request.models[i], request.descriptions[i]) for i in (number, request.primary)]
    if params.compat or (lenient and counts[0] == counts[1]):
        return
    why = "so it is not known which of its rows is which token"
    hint = f"put its tokenizer files there; 'compat: mergekit' takes it to have the vocabulary of {base.name}"
    raise cannot_be_read(model, why, hint)


def _within_rows(
    model: Checkpoint, description: Description, table: TokenTable
) -> tuple[TokenTable, tuple[str, ...]]:
    """The table without tokens that have no row, and these."""
    rows = table_rows(model, description)
    if rows is None or max(table.ids.values(), default=-1) < rows:
        return table, ()
    lost = sorted((token for token, number in table.ids.items() if number >= rows), key=table.ids.__getitem__)
    kept = {token: number for token, number in table.ids.items() if number < rows}
    return replace(table, ids=kept), tuple(lost)
