"""Cuts the text of tokens into those of another vocabulary, with its own tokenizer; read `Cutter`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from mergecore.errors import InputError
from mergecore.types import Checkpoint
from mergecore.vocabulary import MAIN, TokenizerFiles
from mergecore_plugins.transplant.counterparts import Texts

if TYPE_CHECKING:
    from tokenizers import Tokenizer


class Cutter:
    """The tokenizer of a model, without what it does to whole texts before and after."""

    def __init__(self, model: Checkpoint, texts: Texts) -> None:
        """Raise E240 when the model has no tokenizer.json."""
        self._texts = texts
        self._tokenizer = _tokenizer(model)
        unknown = texts.roles.get("unk")
        self._unknown = texts.table.ids[unknown] if unknown else None

    def pieces(self, text: bytes) -> list[int]:
        """The ids that the text is cut into; none for what the vocabulary cannot write."""
        written = self._texts.spelling.written(text)
        if self._texts.spelling.kind == "words" and self._tokenizer.normalizer:
            written = self._tokenizer.normalizer.normalize_str(written)
        if not written:
            return []
        return [one.id for one in self._tokenizer.model.tokenize(written) if one.id != self._unknown]


def _tokenizer(model: Checkpoint) -> Tokenizer:
    from tokenizers import Tokenizer

    files = TokenizerFiles(model)
    hint = f"put a {MAIN} there: transformers writes one when it loads and saves the tokenizer"
    if MAIN not in model.side_files:
        raise InputError(
            "E240", f"tokens are cut into pieces by a {MAIN}", place=model.name, hint=f"{hint}, or use omp"
        )
    try:
        return Tokenizer.from_str(json.dumps(files.mapping(MAIN)))
    except Exception as error:  # noqa: BLE001 - the library raises nothing more special
        raise files.wrong(MAIN, f"the library 'tokenizers' cannot read it: {error}", hint) from None
