from __future__ import annotations

from pathlib import Path

import pytest
from fixture_types import WritePlugin
from near_evaluator import CODE
from tiny import write_llama


@pytest.fixture
def near_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write_plugin: WritePlugin) -> None:
    """In a folder of its own: a base and two models, and the evaluator of ``near_evaluator``."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name, value in (("base", 0.0), ("a", 1.0), ("b", 3.0)):
        write_llama(tmp_path / name, 3, value)
    write_plugin("near", CODE)
