"""What the card of a model says for machines, such as its licence: the front matter of README.md; read `read_card`."""

from __future__ import annotations

import re

from mergecore.errors import MergecoreError
from mergecore.files.strict_json import Json
from mergecore.models.input_folder import InputFolder

NAME = "README.md"
_MAX_BYTES = 16_000_000
_LONGEST = 100_000


def read_card(files: InputFolder) -> dict[str, Json]:
    """The metadata of README.md; empty where there is none that can be read.

    Nothing but the new card depends on it, so a damaged one is not an error.
    """
    if NAME not in files.names:
        return {}
    try:
        text = files.read(NAME, code="E236", max_bytes=_MAX_BYTES).decode("utf-8", errors="replace")
    except MergecoreError:  # a folder of that name, a link that leads nowhere
        return {}
    return card_data(text)


def card_data(text: str) -> dict[str, Json]:
    """The metadata at the beginning of a card."""
    found = _FRONT.match(text.replace("\r\n", "\n"))
    if not found or len(found[1]) > _LONGEST:
        return {}
    from mergecore.files.yaml_document import parse_document  # brings yaml, which starting up does without

    try:
        value = parse_document(found[1], NAME).data
    except MergecoreError:
        return {}
    return dict(value)


_FRONT = re.compile(r"\ufeff?---[ \t]*\n(.*?)\n---[ \t]*(\n|$)", re.DOTALL)
