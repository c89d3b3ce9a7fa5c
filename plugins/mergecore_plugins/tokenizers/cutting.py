"""How a tokenizer cuts text once its vocabulary has further tokens, and how it is kept from taking them.

Read `take_no_word_whole`, which changes a tokenizer.json, and `used`, which says what cannot be prevented.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from mergecore.files import parse_json
from mergecore.tokenizers import kind_of_model
from mergecore.types import Json
from mergecore_plugins.tokenizers.loading import loaded

if TYPE_CHECKING:
    from tokenizers import Tokenizer


@dataclass(frozen=True)
class Used:
    """Foreign tokens that text of the base is cut into, by the reason."""

    whole: tuple[str, ...] = ()
    """BPE takes them as whole words, before any merge."""
    stuck: tuple[str, ...] = ()
    """The words of the base that are the reason for this: no merge leads to them."""
    letters: tuple[str, ...] = ()
    """The base writes a character in them as bytes, or not at all."""
    bytewise: bool = False
    """It writes such a character as bytes, so it knows all text."""


def take_no_word_whole(document: dict[str, Json]) -> None:
    """Let a BPE go by its merges alone, if that is the same for all its own words.

    With `ignore_merges`, every word that is in the vocabulary is taken at once, so also one that is added.
    """
    model = cast("dict[str, Json]", document["model"])
    if kind_of_model(model) == "BPE" and model.get("ignore_merges") is True and not _stuck(document):
        model["ignore_merges"] = False


def used(after: Mapping[str, Json], own: Collection[str], ordinary: Sequence[str]) -> Used:
    """Which of the `ordinary` tokens text may be cut into that is known to the base, whose tokens are `own`."""
    model = cast("Mapping[str, Json]", after["model"])
    kind = kind_of_model(model)
    letters = {token for token in own if len(token) == 1}
    bytewise = model.get("byte_fallback") is True
    found = Used(letters=tuple(_with_new_letters(kind, model, ordinary, letters)), bytewise=bytewise)
    if kind != "BPE" or model.get("ignore_merges") is not True:
        return found
    before = _only(after, own)
    words = set(_whole_words(before, ordinary)) - set(found.letters)
    return Used(
        whole=tuple(token for token in ordinary if token in words),
        stuck=tuple(_stuck(before)),
        letters=found.letters,
        bytewise=bytewise,
    )


def _only(document: Mapping[str, Json], tokens: Collection[str]) -> Mapping[str, Json]:
    """The document of a BPE without all other tokens."""
    model = cast("dict[str, Json]", document["model"])
    vocabulary = cast("dict[str, Json]", model["vocab"])
    kept: dict[str, Json] = {token: number for token, number in vocabulary.items() if token in tokens}
    added = [one for one in _added(document) if cast("Mapping[str, Json]", one)["content"] in tokens]
    return {**document, "model": {**model, "vocab": kept}, "added_tokens": added}


def _with_new_letters(
    kind: str, model: Mapping[str, Json], tokens: Sequence[str], letters: set[str]
) -> Iterable[str]:
    """The tokens that are reached since the base lacks a character in them."""
    if kind == "BPE":
        return [token for token in tokens if len(_bare(model, token)) == 1]
    return [token for token in tokens if set(token) - letters]


def _bare(model: Mapping[str, Json], token: str) -> str:
    """A token without the marks for the begin and the end of words."""
    prefix, suffix = model.get("continuing_subword_prefix"), model.get("end_of_word_suffix")
    token = token.removeprefix(prefix) if isinstance(prefix, str) else token
    return token.removesuffix(suffix) if isinstance(suffix, str) else token


def _stuck(document: Mapping[str, Json]) -> list[str]:
    """The words of a BPE that merges alone do not lead to; added tokens and bytes are found without them.

    Text that spells a byte, such as <0x0A>, is not meant to become that byte.
    """
    model = cast("Mapping[str, Json]", document["model"])
    added = {cast("Mapping[str, Json]", one)["content"] for one in _added(document)}
    plain = loaded({**document, "model": {**model, "ignore_merges": False}}).model
    vocabulary = cast("Mapping[str, int]", model["vocab"])
    return [
        token
        for token, number in vocabulary.items()
        if token not in added
        and [one.id for one in plain.tokenize(token)] != [number]
        and not (model.get("byte_fallback") is True and _BYTE.fullmatch(token))
    ]


_BYTE = re.compile(r"<0x[0-9A-F]{2}>")


def _added(document: Mapping[str, Json]) -> list[Json]:
    return cast("list[Json]", document.get("added_tokens") or [])


def _whole_words(document: Mapping[str, Json], tokens: Sequence[str]) -> list[str]:
    """Those of the tokens that may be a word by themselves; all of them where text is not split into words."""
    tokenizer = loaded(document)
    if tokenizer.pre_tokenizer is None or tokenizer.decoder is None:
        return list(tokens)
    return [token for token in tokens if _is_word(tokenizer, token)]


def _is_word(tokenizer: Tokenizer, token: str) -> bool:
    text = tokenizer.decoder.decode([token])
    return any(
        [word for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(start + text)][-1:] == [token]
        for start in ("", "a")
    )


def as_document(content: bytes) -> Mapping[str, Json]:
    """The tokenizer.json in these bytes, which are known to be one."""
    return cast(
        "Mapping[str, Json]", parse_json(content, "tokenizer.json", code="E240", max_bytes=len(content))
    )
