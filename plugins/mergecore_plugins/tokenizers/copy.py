"""The tokenizer strategy `copy`, the default: the primary model's vocabulary and files as they are.

Rows keep their places; those of added tokens with other ids follow the tokens.  Models whose ordinary tokens
differ are refused; see `copy`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mergecore import Checkpoint, InputError, NoParams, TokenizerStrategy, hookimpl
from mergecore.errors import some
from mergecore.tokenizers import Comparison, TokenizerFiles, compare, same_vocabulary
from mergecore.types import Rows, TokenizerRequest, TokenTable, Vocabulary
from mergecore_plugins.tokenizers.building import rows_by_name, table_rows
from mergecore_plugins.tokenizers.tokenizer_json import tokenizer_files


@hookimpl
def mergecore_tokenizer_strategies() -> Iterator[TokenizerStrategy[Any]]:
    yield TokenizerStrategy(
        name="copy", build=copy, params=NoParams, summary="files of the first model as they are; the default"
    )


def copy(request: TokenizerRequest, params: NoParams) -> Vocabulary:
    """The primary model's tokenizer files, byte for byte.

    A model without a tokenizer must have tensors of the primary model's size.  Of one whose vocabulary differs in
    added or special tokens only, the rows follow the tokens, with a warning.

    Raises:
        InputError: E240 when the vocabularies differ in ordinary tokens.
    """
    primary = request.models[request.primary]
    first = next((one for one in (primary, *request.models) if TokenizerFiles(one).main), primary)
    rows: list[Rows | None] = []
    warnings = []
    for model, description in zip(request.models, request.descriptions, strict=True):
        known = TokenizerFiles(model).main is not None
        count = table_rows(model, description) or 0
        rows.append(range(count) if known and TokenizerFiles(primary).main else None)
        if known and not same_vocabulary(first, model) and (told := _accepted(first, model, request)):
            warnings.append(told)
            rows[-1] = _by_name(first, model, request, count)
    return Vocabulary(tokenizer_files(primary), tuple(rows), warnings=(*warnings, *_absent(request)))


def _accepted(primary: Checkpoint, model: Checkpoint, request: TokenizerRequest) -> str:
    """What to say about a vocabulary that differs from the primary model's, nothing where it does not; or E240."""
    left, right = request.read(primary), request.read(model)
    assert left is not None
    assert right is not None
    found = compare(left, right)
    if not found.differing:
        return ""
    if all(token in left.special or token in right.special for token in found.differing):
        return _warning(primary, model, found)
    what = (
        f"the vocabularies of {primary.name} and {model.name} differ: {found.told(primary.name, model.name)}"
    )
    raise InputError("E240", f"{what}{_examples(found, left, right)}", hint=CHOICES)


def _by_name(primary: Checkpoint, model: Checkpoint, request: TokenizerRequest, count: int) -> Rows:
    """The rows of the primary model's tokens in a model; rows of padding, which have no token, keep their places."""
    left, right = request.read(primary), request.read(model)
    assert left is not None
    assert right is not None
    size = max(count, max(left.ids.values(), default=-1) + 1)
    taken = {*left.ids.values(), *right.ids.values()}
    return rows_by_name(right, left.ids, size, [one for one in range(count) if one not in taken])


CHOICES = (
    "say which vocabulary the output has: 'tokenizer: {source: base}' keeps that of the base, "
    "'{source: union}' adds the tokens of the others to it, '{source: <model>}' takes that of a model"
)


def _examples(found: Comparison, left: TokenTable, right: TokenTable) -> str:
    ordinary = [token for token in found.differing if token not in left.special | right.special]
    return f" (such as {some(ordinary, 3)})"


def _warning(primary: Checkpoint, model: Checkpoint, found: Comparison) -> str:
    facts = [
        f"only {name} has {some(tokens)}"
        for name, tokens in ((primary.name, found.left), (model.name, found.right))
        if tokens
    ]
    if found.moved:
        facts.append(f"{some(found.moved)} have other ids")
    if found.renamed:
        shown = "; ".join(f"{number} is '{one}' and '{other}'" for number, one, other in found.renamed[:4])
        facts.append(f"id {shown}: rows follow the tokens, not the ids")
    return (
        f"the vocabularies of {primary.name} and {model.name} differ in added or special tokens: "
        f"{'; '.join(facts)}; the output has those of {primary.name} ('tokenizer: {{source: union}}' keeps both)"
    )


def _absent(request: TokenizerRequest) -> list[str]:
    primary = request.models[request.primary]
    others = [model.name for model in request.models if TokenizerFiles(model).main]
    if TokenizerFiles(primary).main or not others:
        return []
    return [f"{primary.name} has no tokenizer, so the output has none; {', '.join(others)} would have one"]
