"""The project as files: where it is, and the wheel that is built of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from baked_plugins import build_wheel

PROJECT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def project() -> Path:
    """The folder that holds pyproject.toml."""
    return PROJECT


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of mergecore, built from this checkout."""
    return build_wheel(PROJECT, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="session")
def build() -> object:
    """A function that builds the wheel of a project into a folder."""
    return build_wheel
