"""What is in the editor, kept so that a reload of the page or a restart of the server loses nothing."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mergecore import MergecoreError
from mergecore.files import read_json
from mergecore_plugins.ui.configs.files import state, write

NAME = "draft.json"


@dataclass(frozen=True)
class Draft:
    """A text, the file that it is to be saved as, and where its merge is to be written."""

    text: str = ""
    name: str = ""
    out: str = ""
    opened: str = ""
    """A digest of what the file held when it was opened or saved."""


def draft(folder: Path) -> Draft:
    """What was kept; an empty one where there is nothing, or nothing that can be read."""
    try:
        found: Any = read_json(state(folder) / NAME, code="E104")
        return Draft(**{key: str(found[key]) for key in Draft.__dataclass_fields__ if key in found})
    except (OSError, MergecoreError, TypeError):
        return Draft()


def keep_draft(folder: Path, kept: Draft) -> None:
    """Keep a draft."""
    write(state(folder) / NAME, json.dumps(asdict(kept)))
