"""The vocabulary of a model: which token has which id, read from its tokenizer files.

`VocabularyReader` is the way in; `same_vocabulary` compares files without parsing them if it can.  A function
for each file format follows.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from mergecore.errors import InputError, PolicyError
from mergecore.files.small_files import read_small
from mergecore.files.strict_json import MAX_BYTES, parse_mapping
from mergecore.tokenizers.sentencepiece import Piece, read_pieces
from mergecore.types import Checkpoint, Json, TokenTable

TOKENIZER_CONFIG = "tokenizer_config.json"
TOKENIZER_JSON = "tokenizer.json"
MAX_ID = 2**24 - 1
"""Far beyond any vocabulary: what has a place for every id must not exhaust the memory."""


class VocabularyReader:
    """Reads the vocabularies of models, files of the same bytes once."""

    def __init__(self) -> None:
        self._known: dict[str, TokenTable] = {}

    def read(self, model: Checkpoint) -> TokenTable | None:
        """The vocabulary of a model, None when it has no tokenizer.

        Raises:
            MergecoreError: E240 when its files are wrong or of a kind that cannot be read, E305 when its
                tokenizer is a class of its own.
        """
        return self._table(TokenizerFiles(model))

    def read_files(self, model: Checkpoint, files: Mapping[str, Path | bytes]) -> TokenTable | None:
        """The vocabulary that `files` state, such as those of an output, which has the config of `model`."""
        return self._table(TokenizerFiles(model, files))

    def _table(self, files: TokenizerFiles) -> TokenTable | None:
        if files.main is None:
            return None
        _refuse_custom_class(files)
        key = files.digest(*_STATING, files.main)
        if key not in self._known:
            self._known[key] = _read(files, files.main)
        return self._known[key]


def same_vocabulary(one: Checkpoint, other: Checkpoint) -> bool:
    """Whether the files of two models state one vocabulary, as far as can be told without parsing it.

    Raises:
        MergecoreError: E240 when what has to be parsed cannot be.
    """
    left, right = TokenizerFiles(one), TokenizerFiles(other)
    if left.main is None or left.main != right.main or left.digest(left.main) != right.digest(left.main):
        return False
    return left.digest(*_STATING) == right.digest(*_STATING) or _added_beside(left) == _added_beside(right)


@dataclass(frozen=True)
class TokenizerFiles:
    """The tokenizer files of a model, or others in their place."""

    model: Checkpoint
    others: Mapping[str, Path | bytes] | None = None

    @property
    def files(self) -> Mapping[str, Path | bytes]:
        """By name."""
        return self.model.side_files if self.others is None else self.others

    @property
    def main(self) -> str | None:
        """The file that states the vocabulary; None when there is no tokenizer."""
        names = sorted(self.files)
        return next((name for kind in _KINDS for name in names if re.fullmatch(kind, name)), None)

    def place(self, name: str) -> str:
        """A file as messages show it."""
        return f"{self.model.name}/{name}"

    def data(self, name: str) -> bytes:
        """The bytes of a file."""
        content = self.files[name]
        return (
            content if isinstance(content, bytes) else read_small(content, code="E240", max_bytes=MAX_BYTES)
        )

    def mapping(self, name: str) -> dict[str, Json]:
        """The JSON object in a file, empty when the model has no such file.

        Raises:
            MergecoreError: E240 when it is something else.
        """
        if name not in self.files:
            return {}
        return parse_mapping(self.data(name), code="E240", place=self.place(name))

    def digest(self, *names: str) -> str:
        """A digest of the bytes of these files, as far as they are there."""
        there = {name: self.data(name) for name in names if name in self.files}
        return "".join(f"{name} {hashlib.sha256(data).hexdigest()}\n" for name, data in there.items())

    def wrong(self, name: str, what: str, hint: str | None = None) -> InputError:
        """The error E240 about a file."""
        return InputError("E240", what, place=self.place(name), hint=hint)


_KINDS = (
    r"tokenizer\.json",
    r"vocab\.json",
    r"vocab\.txt",
    r"(tokenizer|spiece|sentencepiece(\.bpe)?|spm)\.model|[\w.-]+\.spm",
    r"tekken\.json|tokenizer\.model\.v\d+|[\w.-]+\.tiktoken|tiktoken\.model",
)
"""Files that state a vocabulary, those that are believed first."""

_STATING = (TOKENIZER_CONFIG, "added_tokens.json", "special_tokens_map.json")
"""Files that add to what the main one states."""


def _refuse_custom_class(files: TokenizerFiles) -> None:
    for name, config in (
        (TOKENIZER_CONFIG, files.mapping(TOKENIZER_CONFIG)),
        ("config.json", files.model.config),
    ):
        classes = config.get("auto_map")
        if isinstance(classes, dict) and "AutoTokenizer" in classes:
            raise PolicyError(
                "E305",
                "'auto_map' names a tokenizer class of its own, and mergecore never runs code of models",
                place=files.place(name),
                hint="files that are the same in all models are copied unread when the config says nothing of "
                "'tokenizer'; no flag allows more",
            )


# ---- one vocabulary ----------------------------------------------------------------------------------------


def _read(files: TokenizerFiles, main: str) -> TokenTable:
    kind = ""
    added: dict[str, Mapping[str, Json]] = {}
    if main == TOKENIZER_JSON:
        kind, ids, added = _from_tokenizer_json(files)
    elif main.endswith("vocab.json"):
        ids = _numbers(files, main, files.mapping(main).items())
    elif main.endswith("vocab.txt"):
        ids, kind = _from_lines(files, main), "WordPiece"
    else:
        pieces = _pieces(files, main)
        ids = {piece.text: number for number, piece in enumerate(pieces)}
        added = {one.text: {"content": one.text, "special": one.control} for one in pieces if one.special}
    ids, added = _with_further(files, main, ids, added)
    return TokenTable(main, kind, ids, added, frozenset(added) | _named(files) & ids.keys())


def _with_further(
    files: TokenizerFiles, main: str, ids: Mapping[str, int], added: Mapping[str, Mapping[str, Json]]
) -> tuple[dict[str, int], dict[str, Mapping[str, Json]]]:
    """Tokens and added tokens, with those that other files state for the first time."""
    further = {} if main == TOKENIZER_JSON else files.mapping("added_tokens.json")
    flags = _added_beside(files)
    stated = {str(flag.get("content")): number for number, flag in flags.items()}
    more = [(token, number) for token, number in {**further, **stated}.items() if token not in ids]
    both = _numbers(files, TOKENIZER_CONFIG if stated else "added_tokens.json", [*ids.items(), *more])
    known = {str(flag.get("content")): flag for flag in flags.values()}
    new = {**{token: known.get(token, {"content": token}) for token, _ in more}, **added}
    return both, new | {token: flag for token, flag in known.items() if token in ids and token not in new}


def _added_beside(files: TokenizerFiles) -> dict[int, dict[str, Json]]:
    """The added tokens that tokenizer_config.json states, by id.

    Raises:
        MergecoreError: E240.
    """
    stated = files.mapping(TOKENIZER_CONFIG).get("added_tokens_decoder")
    flags: dict[int, dict[str, Json]] = {}
    for number, flag in (stated if isinstance(stated, dict) else {}).items():
        if (
            not re.fullmatch(r"\d{1,9}", number)
            or not isinstance(flag, dict)
            or not _is_text(flag, "content")
        ):
            raise files.wrong(
                TOKENIZER_CONFIG, f"added_tokens_decoder: {json.dumps({number: flag})} is not an added token"
            )
        flags[int(number)] = flag
    return flags


def _named(files: TokenizerFiles) -> frozenset[str]:
    """The tokens that play a part, such as the end of a text."""
    names: set[str] = set()
    for name in (TOKENIZER_CONFIG, "special_tokens_map.json"):
        for key, value in files.mapping(name).items():
            if key.endswith(("_token", "special_tokens")):
                values = value if isinstance(value, list) else [value]
                if isinstance(value, dict) and "content" not in value:
                    values = list(value.values())
                names |= {_content(one) for one in values}
    return frozenset(names) - {""}


def _content(token: Json) -> str:
    if isinstance(token, dict):
        token = token.get("content")
    return token if isinstance(token, str) else ""


def _is_text(mapping: Mapping[str, Json], key: str) -> bool:
    return isinstance(mapping.get(key), str)


def _numbers(files: TokenizerFiles, name: str, pairs: Iterable[tuple[str, Json]]) -> dict[str, int]:
    """The pairs as a mapping in which no two tokens have one id.

    Raises:
        InputError: E240.
    """
    owners: dict[int, str] = {}
    ids: dict[str, int] = {}
    for token, number in pairs:
        if type(number) is not int or not 0 <= number <= MAX_ID:
            hint = f"ids are whole numbers from 0 to {MAX_ID}"
            raise files.wrong(name, f"token '{token}' has id {json.dumps(number)}", hint)
        if owners.setdefault(number, token) != token:
            raise files.wrong(name, f"id {number} stands for two tokens, '{owners[number]}' and '{token}'")
        if ids.setdefault(token, number) != number:
            raise files.wrong(name, f"token '{token}' has two ids, {ids[token]} and {number}")
    return ids


# ---- one format --------------------------------------------------------------------------------------------


def _from_tokenizer_json(
    files: TokenizerFiles,
) -> tuple[str, dict[str, int], dict[str, Mapping[str, Json]]]:
    """Kind, tokens with ids, and added tokens with flags."""
    document = files.mapping(TOKENIZER_JSON)
    model, added = document.get("model"), document.get("added_tokens") or []
    vocabulary = model.get("vocab") if isinstance(model, dict) else None
    if not isinstance(model, dict) or not isinstance(vocabulary, (dict, list)) or not isinstance(added, list):
        raise files.wrong(
            TOKENIZER_JSON, "not the tokenizer of the 'tokenizers' library: it has no model with a vocab"
        )
    flags: dict[str, Mapping[str, Json]] = {}
    for token in added:
        if not isinstance(token, dict) or not _is_text(token, "content") or "id" not in token:
            raise files.wrong(
                TOKENIZER_JSON, f"{json.dumps(token)} is not an added token: 'id' and 'content' are needed"
            )
        flags[str(token["content"])] = token
    pairs = vocabulary.items() if isinstance(vocabulary, dict) else _scored(files, vocabulary)
    ids = _numbers(files, TOKENIZER_JSON, [*pairs, *((token, flag["id"]) for token, flag in flags.items())])
    return kind_of_model(model), ids, flags


def kind_of_model(model: Mapping[str, Json]) -> str:
    """The kind of the `model` of a tokenizer.json; old files do not state it."""
    stated = model.get("type")
    if isinstance(stated, str):
        return stated
    if isinstance(model.get("vocab"), list):
        return "Unigram"
    return "BPE" if "merges" in model else "WordPiece" if "max_input_chars_per_word" in model else "WordLevel"


def _scored(files: TokenizerFiles, pieces: list[Json]) -> Iterator[tuple[str, Json]]:
    """Pieces with their places; of a piece that is there twice, the last one counts, as in the library."""
    places: dict[str, int] = {}
    for number, piece in enumerate(pieces):
        if not isinstance(piece, list) or len(piece) != 2 or not isinstance(piece[0], str):
            raise files.wrong(
                TOKENIZER_JSON, f"{json.dumps(piece)} is not a piece: [text, score] is expected"
            )
        places[piece[0]] = number
    yield from places.items()


def _from_lines(files: TokenizerFiles, name: str) -> dict[str, int]:
    try:
        text = files.data(name).decode()
    except UnicodeDecodeError as error:
        raise files.wrong(name, f"not UTF-8 at byte {error.start}") from None
    lines = text.removesuffix("\n").split("\n")
    return {line.removesuffix("\r"): number for number, line in enumerate(lines)}


def _pieces(files: TokenizerFiles, name: str) -> list[Piece]:
    """The pieces of a sentencepiece model whose ids are their places."""
    config = files.mapping(TOKENIZER_CONFIG)
    family = str(config.get("tokenizer_class") or files.model.config.get("model_type") or "").lower()
    if not re.fullmatch(_KINDS[3], name) or not _BY_PLACE.match(family):
        what = "the ids of its tokens cannot be read from this file alone"
        hint = (
            f"put a {TOKENIZER_JSON} beside it: transformers writes one when it loads and saves the tokenizer"
        )
        raise files.wrong(name, what, hint)
    try:
        return read_pieces(files.data(name))
    except ValueError as error:
        raise files.wrong(name, f"not a sentencepiece model: {error}") from None


_BY_PLACE = re.compile(
    r"llama|codellama|mistral|mixtral|m?t5|umt5|gemma|albert|xlnet|rembert|reformer|internlm"
)
"""Classes that give a piece the number of its place; others shift or reorder them."""
