"""What several tests of adapters in configs share."""

from __future__ import annotations

from pathlib import Path

import pytest
from adapter_configs import write_adapter
from tiny import write_llama


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A base `base`, a fine-tune `other` and an adapter `ad`, in the working directory."""
    monkeypatch.chdir(tmp_path)
    write_llama(Path("base"), 2, seed=1)
    write_llama(Path("other"), 2, seed=2)
    write_adapter(Path("ad"))
    return tmp_path
