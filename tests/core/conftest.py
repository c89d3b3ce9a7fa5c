"""What several tests of merges in memory share."""

from __future__ import annotations

from pathlib import Path

import house
import pytest
from state_dicts import NAMES, Tensors
from tiny import llama, llama_config, write_checkpoint

from mergecore.plugins import discovery


@pytest.fixture(autouse=True)
def _without_contrib(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the distributions of `contrib` that are installed beside mergecore: what is listed is known then."""
    hidden = {folder.name for folder in house.distributions(Path(__file__).resolve().parents[2])}
    found = discovery._found
    monkeypatch.setattr(
        discovery, "_found", lambda: (one for one in found() if one[0].distribution not in hidden)
    )


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Tensors]:
    """Four models in folders of their names, and in memory."""
    monkeypatch.chdir(tmp_path)
    found = {name: llama(2, seed=i) for i, name in enumerate(NAMES)}
    for name in NAMES[1:]:
        found[name] = {key: one + 0.1 * found["base"][key] for key, one in found[name].items()}
    for name, tensors in found.items():
        write_checkpoint(Path(name), tensors, llama_config(2))
    return found
