"""A tokenizer.json as the `tokenizers` library understands it, and one made of other files.

Read `loaded`, then `converted`.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, cast

from mergecore.errors import InputError
from mergecore.files import parse_json
from mergecore.tokenizers import TOKENIZER_JSON, TokenizerFiles, VocabularyReader, is_tokenizer_file
from mergecore.types import Checkpoint, Json

if TYPE_CHECKING:
    from tokenizers import Tokenizer


def loaded(document: Mapping[str, Json], place: str = "tokenizer.json") -> Tokenizer:
    """The tokenizer of a document.

    Raises:
        InputError: E240 when the library refuses it.
    """
    from tokenizers import Tokenizer

    try:
        return Tokenizer.from_str(json.dumps(document))
    except Exception as error:  # noqa: BLE001 - the library raises nothing more special
        what = f"the 'tokenizers' library cannot load it: {error}"
        raise InputError("E240", what, place=place) from None


def converted(model: Checkpoint, reader: TokenizerFiles) -> dict[str, Json]:
    """The tokenizer.json that transformers makes of the tokenizer files of a model.

    Raises:
        InputError: E240 when it makes none, or one whose tokens have other ids than the files say.
    """
    stated = VocabularyReader().read(model)
    try:
        text = _made_by_transformers(model)
        document = cast(
            "dict[str, Json]", parse_json(text, TOKENIZER_JSON, code="E240", max_bytes=4 * len(text))
        )
    except Exception as error:  # noqa: BLE001 - whatever a converter raises, there is no tokenizer.json
        reason = str(error).strip().split("\n")[0]
        what = f"tokens cannot be added or removed, because transformers makes no {TOKENIZER_JSON} of it: {reason}"
        hint = f"put a {TOKENIZER_JSON} beside it; models of sentencepiece need 'pip install sentencepiece protobuf'"
        raise reader.wrong(reader.main or TOKENIZER_JSON, what, hint) from None
    found = loaded(document).get_vocab(with_added_tokens=True)
    other = [token for token, number in (stated.ids if stated else {}).items() if found.get(token) != number]
    if other or not stated or found.keys() - stated.ids.keys():
        token = (other or sorted(found.keys() - (stated.ids.keys() if stated else set())))[0]
        what = f"the {TOKENIZER_JSON} that transformers makes of it says otherwise of token '{token}'"
        raise reader.wrong(reader.main or TOKENIZER_JSON, what, f"put a {TOKENIZER_JSON} beside it")
    return document


def _made_by_transformers(model: Checkpoint) -> str:
    """By the class that the files name, else the one of the kind of model."""
    from transformers import AutoTokenizer

    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for name, path in model.side_files.items():
            if is_tokenizer_file(name) and "/" not in name:
                (folder / name).write_bytes(path.read_bytes())
        (folder / "config.json").write_text(json.dumps(model.config))
        made = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        text: str = made.backend_tokenizer.to_str()
        return text
