"""Cuts the text of tokens into those of another vocabulary, with its own tokenizer; read `Cutter`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from mergecore.errors import InputError
from mergecore.tokenizers import TOKENIZER_JSON, TokenizerFiles
from mergecore.types import Checkpoint, Json
from mergecore_plugins.transplant.tokens.counterparts import Texts
from mergecore_plugins.transplant.tokens.spelling import byte_token

if TYPE_CHECKING:
    from tokenizers import Tokenizer


class Cutter:
    """The tokenizer of a model, without what it does to whole texts before and after."""

    def __init__(self, model: Checkpoint, texts: Texts) -> None:
        """Raise E240 when the model has no tokenizer.json."""
        self._texts = texts
        document = _document(model)
        self._tokenizer = _tokenizer(model, document)
        self._unknown = _unknown(document, texts)

    def pieces(self, text: bytes) -> list[int]:
        """The ids that the text is cut into; none for what the vocabulary cannot write."""
        found: list[int] = []
        for stretch in self._texts.spelling.written(text):
            if isinstance(stretch, int):  # a byte that is no character
                number = self._texts.table.ids.get(byte_token(stretch))
                found += [] if number is None else [number]
            else:
                found += self._cut(stretch)
        return found

    def _cut(self, written: str) -> list[int]:
        if self._texts.spelling.kind == "words" and self._tokenizer.normalizer:
            written = self._tokenizer.normalizer.normalize_str(written)
        if not written:
            return []
        return [one.id for one in self._tokenizer.model.tokenize(written) if one.id != self._unknown]


def _document(model: Checkpoint) -> dict[str, Json]:
    if TOKENIZER_JSON not in model.side_files:
        what = f"tokens are cut into pieces by a {TOKENIZER_JSON}"
        raise InputError("E240", what, place=model.name, hint=f"{HINT}, or use omp")
    return TokenizerFiles(model).mapping(TOKENIZER_JSON)


def _tokenizer(model: Checkpoint, document: dict[str, Json]) -> Tokenizer:
    from tokenizers import Tokenizer

    try:
        return Tokenizer.from_str(json.dumps(document))
    except Exception as error:  # noqa: BLE001 - the library raises nothing more special
        what = f"the library 'tokenizers' cannot read it: {error}"
        raise TokenizerFiles(model).wrong(TOKENIZER_JSON, what, HINT) from None


HINT = f"put a {TOKENIZER_JSON} there: transformers writes one when it loads and saves the tokenizer"


def _unknown(document: dict[str, Json], texts: Texts) -> int | None:
    """The id that stands for what the vocabulary cannot write."""
    model = document.get("model")
    stated = (model.get("unk_id"), model.get("unk_token")) if isinstance(model, dict) else (None, None)
    if isinstance(stated[0], int):
        return stated[0]
    return texts.table.ids.get(str(stated[1] or texts.roles.get("unk")))
