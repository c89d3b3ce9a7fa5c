"""Adds tokens to tokenizer files, and takes some out: as JSON, with everything else kept as it is.

Read `edited_files`.  Which id a token gets is decided elsewhere; here the files are made to say so.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias, cast

from mergecore.errors import InputError
from mergecore.tokenizers import (
    TOKENIZER_CONFIG,
    TOKENIZER_JSON,
    TokenizerFiles,
    is_tokenizer_file,
    kind_of_model,
)
from mergecore.types import Checkpoint, Json
from mergecore_plugins.tokenizers.cutting import take_no_word_whole
from mergecore_plugins.tokenizers.loading import converted

Object: TypeAlias = "dict[str, Json]"

PLAIN: Mapping[str, Json] = {
    "single_word": False,
    "lstrip": False,
    "rstrip": False,
    "normalized": False,
    "special": False,
}
"""Flags of an added token that is found in text literally."""


@dataclass(frozen=True)
class NewToken:
    """A token that a tokenizer is to have, with its id; ordinary unless it has the flags of an added one."""

    text: str
    id: int
    flags: Mapping[str, Json] | None = None


def tokenizer_files(model: Checkpoint) -> dict[str, Path | bytes]:
    """The tokenizer files of a model as they are."""
    return {name: path for name, path in model.side_files.items() if is_tokenizer_file(name)}


def edited_files(
    model: Checkpoint, new: Sequence[NewToken], removed: Collection[str] = ()
) -> dict[str, Path | bytes]:
    """The tokenizer files of a model with `new` tokens and without the `removed` ones.

    An added token may be one that the model has as an ordinary token; it keeps its id.  Files that would
    state another vocabulary are left out.

    Raises:
        InputError: E240 when there is no tokenizer.json and none can be made, or it cannot hold the tokens with
            these ids.
    """
    files = tokenizer_files(model)
    if not new and not removed:
        return files
    reader = TokenizerFiles(model)
    document = reader.mapping(TOKENIZER_JSON) if reader.main == TOKENIZER_JSON else converted(model, reader)
    _edit(document, new, removed, reader)
    files[TOKENIZER_JSON] = as_json(document)
    config = reader.mapping(TOKENIZER_CONFIG)
    if _edit_config(config, new, removed):
        files[TOKENIZER_CONFIG] = as_json(config)
    if "added_tokens.json" in files:
        files["added_tokens.json"] = as_json(_edit_added(reader.mapping("added_tokens.json"), new, removed))
    for name in _OUTDATED:
        files.pop(name, None)
    return files


def as_json(value: Mapping[str, Json]) -> bytes:
    """The text of a tokenizer file."""
    return json.dumps(value, indent=2, ensure_ascii=False).encode() + b"\n"


_OUTDATED = ("vocab.json", "merges.txt", "vocab.txt")
"""Files that state the vocabulary again; who reads them would not know the new tokens."""


# ---- tokenizer.json ----------------------------------------------------------------------------------------


def _edit(
    document: Object, new: Sequence[NewToken], removed: Collection[str], reader: TokenizerFiles
) -> None:
    model = cast("Object", document["model"])
    added = [cast("Object", one) for one in cast("list[Json]", document.get("added_tokens") or [])]
    if removed:
        added = [one for one in added if one["content"] not in removed]
        _remove(model, set(removed))
    known = {one["content"] for one in added}
    added += [
        {"id": token.id, "content": token.text, **PLAIN, **_flags(token.flags)}
        for token in new
        if token.flags is not None and token.text not in known
    ]
    added.sort(key=lambda one: cast("int", one["id"]))
    document["added_tokens"] = cast("Json", added)
    ordinary = [(token.text, token.id) for token in new if token.flags is None]
    if ordinary or not _as_numbered(model, added):
        if ordinary:
            take_no_word_whole(document)
        known_ids = [(str(one["content"]), cast("int", one["id"])) for one in added]
        _put(model, ordinary + known_ids, reader)


def _flags(flags: Mapping[str, Json]) -> dict[str, Json]:
    return {key: value for key, value in flags.items() if key in PLAIN}


def _as_numbered(model: Object, added: Iterable[Object]) -> bool:
    """Whether any version of the library numbers added tokens as stated: it counts on from those of the model.

    Versions differ in how they count when an id of the model is beyond its number of tokens.
    """
    vocabulary = _ids(model)
    size = following = len(cast("dict[str, Json] | list[Json]", model["vocab"]))
    for one in added:
        number = vocabulary.get(str(one["content"]))
        if number is None:
            number, following = following, following + 1
        elif number >= size:
            return False
        if number != one["id"]:
            return False
    return True


def _ids(model: Object) -> Mapping[str, int]:
    vocabulary = model["vocab"]
    if isinstance(vocabulary, list):
        return {str(cast("list[Json]", piece)[0]): number for number, piece in enumerate(vocabulary)}
    return cast("Mapping[str, int]", vocabulary)


def _put(model: Object, tokens: Sequence[tuple[str, int]], reader: TokenizerFiles) -> None:
    """Give the model of the tokenizer these tokens, so that their ids need not be guessed.

    No merge leads to them, and as pieces they score too low to be chosen: text is cut as before, but for what
    `cutting.py` finds.
    """
    vocabulary = model["vocab"]
    known = _ids(model)
    fresh = sorted(
        ((token, number) for token, number in tokens if token not in known), key=lambda one: one[1]
    )
    if isinstance(vocabulary, dict):
        vocabulary.update(fresh)
        return
    assert isinstance(vocabulary, list)
    score = _low_score(vocabulary, longest=max((len(token) for token, _ in fresh), default=1))
    for token, number in fresh:
        if number != len(vocabulary):
            what = f"token '{token}' cannot have the id {number}: the id {len(vocabulary)} has no token"
            raise reader.wrong(
                TOKENIZER_JSON, what, "a tokenizer of kind Unigram has no gaps between its ids"
            )
        vocabulary.append([token, score])


def _low_score(pieces: Sequence[Json], longest: int) -> float:
    """A score below that of any way to write a piece of `longest` characters with those that are there."""
    scores = [float(cast("float", cast("list[Json]", piece)[1])) for piece in pieces]
    longest = max([longest, *(len(str(cast("list[Json]", piece)[0])) for piece in pieces)])
    return (min([0.0, *scores]) - _UNKNOWN) * (2 * longest + 1)


_UNKNOWN = 10.0
"""What the library takes off the lowest score for a character that no piece has."""


def _remove(model: Object, removed: set[str]) -> None:
    vocabulary = model["vocab"]
    if isinstance(vocabulary, list):
        model["vocab"] = [piece for piece in vocabulary if cast("list[Json]", piece)[0] not in removed]
    elif isinstance(vocabulary, dict):
        model["vocab"] = {token: number for token, number in vocabulary.items() if token not in removed}
    merges = model.get("merges")
    if kind_of_model(model) == "BPE" and isinstance(merges, list):
        model["merges"] = [merge for merge in merges if not _mentions(merge, removed)]


def _mentions(merge: Json, removed: set[str]) -> bool:
    """Whether a merge takes or makes a removed token."""
    parts = merge.split(" ") if isinstance(merge, str) else [str(part) for part in cast("list[Json]", merge)]
    return not removed.isdisjoint([*parts, "".join(parts)])


# ---- the files beside it -----------------------------------------------------------------------------------


def _edit_config(config: Object, new: Sequence[NewToken], removed: Collection[str]) -> bool:
    """Change tokenizer_config.json in place, if it has to; whether it had to."""
    before = json.dumps(config)
    stated = config.get("added_tokens_decoder")
    if isinstance(stated, dict):
        kept: Object = {
            number: flag
            for number, flag in stated.items()
            if cast("Object", flag).get("content") not in removed
        }
        for token in new:
            if token.flags is not None:
                kept[str(token.id)] = {"content": token.text, **PLAIN, **_flags(token.flags)}
        config["added_tokens_decoder"] = kept
    if config.get("tokenizer_class") == "TokenizersBackend":
        _for_older_readers(config)
    return json.dumps(config) != before


def _for_older_readers(config: Object) -> None:
    """Say what transformers 5 writes in words that transformers 4 knows too."""
    config["tokenizer_class"] = "PreTrainedTokenizerFast"
    if isinstance(config.get("extra_special_tokens"), list):
        config["additional_special_tokens"] = config.pop("extra_special_tokens")
    config.setdefault("model_input_names", ["input_ids", "attention_mask"])  # 4 would add token_type_ids
    for key in ("backend", "is_local", "local_files_only"):
        config.pop(key, None)


def _edit_added(stated: Object, new: Sequence[NewToken], removed: Collection[str]) -> Object:
    kept = {token: number for token, number in stated.items() if token not in removed}
    return kept | {token.text: token.id for token in new if token.flags is not None}


def cannot_be_read(model: Checkpoint, why: str, hint: str) -> InputError:
    """The error E240 for a model without a tokenizer."""
    return InputError("E240", f"it has no tokenizer, {why}", place=model.name, hint=hint)
