"""What the card of a model says for machines, such as its licence: the front matter of README.md; read `read_card`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from mergecore.errors import MergecoreError
from mergecore.files.strict_json import Json
from mergecore.models.input_folder import InputFolder

if TYPE_CHECKING:
    import yaml

NAME = "README.md"
_MAX_BYTES = 16_000_000
_LONGEST = 100_000
_NESTED = 200


def read_card(files: InputFolder) -> dict[str, Json]:
    """The metadata of README.md, all of it text; empty where there is none that can be read.

    Nothing but the new card depends on it, so a damaged one is no error.
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
    if not found or len(found[1]) > _LONGEST or sum(map(found[1].count, "[{")) > _NESTED:
        return {}
    import yaml

    try:
        value = yaml.load(found[1], Loader=_loader())  # noqa: S506 - it makes nothing but texts, lists and mappings
    except yaml.YAMLError:
        return {}
    return value if isinstance(value, dict) else {}


_FRONT = re.compile(r"\ufeff?---[ \t]*\n(.*?)\n---[ \t]*(\n|$)", re.DOTALL)


def _loader() -> type[yaml.BaseLoader]:
    import yaml

    class Texts(yaml.BaseLoader):
        """Reads every scalar as text, so that `no` is a language; and no aliases, which can be without end."""

        def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
            if self.check_event(yaml.AliasEvent):
                raise yaml.YAMLError("an alias")
            return super().compose_node(parent, index)

    return Texts
