"""A folder of models to merge."""

from __future__ import annotations

from pathlib import Path

import pytest
from workshop import Workshop


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    """An empty folder to write models into; it is the current one."""
    monkeypatch.chdir(tmp_path)
    return Workshop(tmp_path)
