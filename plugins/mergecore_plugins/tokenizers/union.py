"""The tokenizer strategy `union`: the base's vocabulary, and after it every token that only others have.

The base's ids stay, and so does the way it cuts text: foreign added tokens become added tokens, foreign
ordinary ones enter the vocabulary without a merge that leads to them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

from mergecore import Checkpoint, TokenizerStrategy, hookimpl
from mergecore.errors import some
from mergecore.tokenizers import TOKENIZER_JSON, compare, kind_of_model
from mergecore.types import Json, TokenizerRequest, TokenTable, Vocabulary
from mergecore_plugins.tokenizers.building import AlignParams, Tables, build, tables
from mergecore_plugins.tokenizers.cutting import as_document, used
from mergecore_plugins.tokenizers.tokenizer_json import PLAIN, NewToken


@hookimpl
def mergecore_tokenizer_strategies() -> Iterator[TokenizerStrategy[Any]]:
    yield TokenizerStrategy(
        name="union",
        build=union,
        params=AlignParams,
        summary="vocabulary of the base, then the tokens of the others",
    )


def union(request: TokenizerRequest, params: AlignParams) -> Vocabulary:
    """The tokens of all models, in order of appearance: ordinary ones before added ones.

    With `compat: mergekit`, foreign ordinary tokens become added tokens, which are found anywhere in a text.

    Raises:
        MergecoreError: E240 when a model has no tokenizer.
    """
    known = tables(request, params)
    own, removed = known.own(request.primary)
    ordinary, added = _foreign(known, own)
    literal: Mapping[str, Json] | None = {**PLAIN, "normalized": True} if params.compat else None
    start = max(own.ids.values(), default=-1) + 1
    new = [NewToken(token, start + number, literal) for number, token in enumerate(ordinary)]
    new += [
        NewToken(token, start + len(new) + number, flags)
        for number, (token, flags) in enumerate(added.items())
    ]
    made = build(
        request,
        known,
        request.models[request.primary],
        own,
        [*new, *_promoted(known, own)],
        removed,
    )
    told = (*_differences(request, known, params, made), *_conflicts(request, known))
    return replace(made, warnings=(*made.warnings, *told))


def _foreign(known: Tables, own: TokenTable) -> tuple[list[str], dict[str, Mapping[str, Json]]]:
    """The tokens that the base lacks: ordinary ones, and added ones with their first flags."""
    ordinary: dict[str, None] = {}
    added: dict[str, Mapping[str, Json]] = {}
    for table in known.tables:
        for token in sorted(table.ids, key=table.ids.__getitem__):
            if token in table.added:
                added.setdefault(token, table.added[token])
            else:
                ordinary.setdefault(token)
    lacked = {token: flags for token, flags in added.items() if token not in own.ids}
    return [token for token in ordinary if token not in own.ids and token not in added], lacked


def _promoted(known: Tables, own: TokenTable) -> list[NewToken]:
    """The base's ordinary tokens that are special elsewhere: as marks of a format they must be found whole."""
    found: dict[str, Mapping[str, Json]] = {}
    for table in known.tables:
        for token, flags in table.added.items():
            if flags.get("special") is True and token in own.ids and token not in own.added:
                found.setdefault(token, flags)
    return [NewToken(token, own.ids[token], flags) for token, flags in found.items()]


def _conflicts(request: TokenizerRequest, known: Tables) -> Iterator[str]:
    """Added tokens that models give other flags."""
    first: dict[str, tuple[str, dict[str, Json]]] = {}
    for model, table in zip(request.models, known.tables, strict=True):
        for token, stated in table.added.items():
            flags = {key: value for key, value in stated.items() if key in PLAIN}
            name, before = first.setdefault(token, (model.name, flags))
            if any(before.get(key, value) != value for key, value in flags.items()):
                yield f"the added token '{token}' has other flags in {model.name} than in {name}, whose are kept"


def _differences(
    request: TokenizerRequest, known: Tables, params: AlignParams, made: Vocabulary
) -> Iterator[str]:
    """The counts of each model that brings ordinary tokens, and what that means."""
    base, own = request.models[request.primary], known.stated[request.primary]
    for model, table in zip(request.models, known.tables, strict=True):
        found = compare(own, table)
        ordinary = [token for token in found.right if token not in table.added]
        if ordinary:
            meaning = _LITERAL if params.compat else _meaning(own, base, ordinary, made)
            yield (
                f"union of {base.name} and {model.name}: {found.told(base.name, model.name)}; of the latter "
                f"{len(ordinary)} are ordinary, such as {some(ordinary, 3)}: {meaning}"
            )


_LITERAL = "they are found anywhere in a text, also within words, so text is cut in another way than before"


def _meaning(own: TokenTable, base: Checkpoint, ordinary: Sequence[str], made: Vocabulary) -> str:
    """How text is cut now."""
    content = made.files[TOKENIZER_JSON]
    assert isinstance(content, bytes)
    document = as_document(content)
    kind = kind_of_model(cast("dict[str, Json]", document["model"]))
    if kind == "WordPiece":
        return f"words and parts that {base.name} had to cut are now found whole, {len(ordinary)} at most"
    if kind == "WordLevel":
        return f"words that {base.name} did not know are now found, {len(ordinary)} at most"
    found = used(document, own.ids.keys(), ordinary)
    facts = []
    if found.whole:
        facts.append(
            f"where {len(found.whole)} of them are whole words: {some(found.whole, 3)} ('ignore_merges' stays, as "
            f"no merge leads to {len(found.stuck)} words of {base.name}, such as {some(found.stuck, 1)})"
        )
    if found.letters:
        why = "it writes a character as bytes" if found.bytewise else "it lacks a character"
        facts.append(f"where {why}: {some(found.letters, 3)}")
    rest = f", except {', and '.join(facts)}" if facts else ""
    return f"they have ids and rows, but text is cut as by {base.name}, which does not use them{rest}"
