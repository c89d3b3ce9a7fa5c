"""A tiny base, and what is made of it."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny_gates


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model of `tiny_gates`."""
    return tiny_gates.base(tmp_path_factory.mktemp("gates") / "base")
