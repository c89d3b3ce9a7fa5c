"""A tokenizer.json as the `tokenizers` library understands it; read `loaded`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

from mergecore.errors import InputError
from mergecore.types import Json

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
