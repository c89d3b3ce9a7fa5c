"""What several tests of import-config share."""

from __future__ import annotations

import pytest
from tiny import registry

from mergecore import MergecoreError
from mergecore_plugins.commands.import_config.importing import Imported, imported


def made(text: str) -> Imported:
    return imported(text, "old.yml", registry())


def refusal(text: str) -> str:
    with pytest.raises(MergecoreError) as caught:
        made(text)
    return f"{caught.value.code} {caught.value}"
