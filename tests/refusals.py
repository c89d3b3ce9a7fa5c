"""What a config is refused for."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from tiny import registry

from mergecore import plan
from mergecore.errors import MergecoreError, Problems
from mergecore.types import Json


def refused(config: Mapping[str, Json]) -> list[str]:
    """Every error that planning `config` ends with, its code first."""
    with pytest.raises(MergecoreError) as caught:
        plan(config, registry=registry())
    errors = caught.value.errors if isinstance(caught.value, Problems) else (caught.value,)
    return [f"{one.code} {one}" for one in errors]
