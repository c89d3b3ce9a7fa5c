"""What several tests of the command line share."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli_runs import Config, entry
from tiny import write_llama


@pytest.fixture
def _models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for seed, name in enumerate(("base", "a", "b")):
        write_llama(tmp_path / "m" / name, 2, seed=seed)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def linear() -> Config:
    return {"merge_method": "linear", "models": [entry("a"), entry("b")]}
