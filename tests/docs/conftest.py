"""Tiny Llama checkpoints under the names that the pages use."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny import llama, llama_config, write_checkpoint


@pytest.fixture(scope="session")
def tiny_llamas(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the checkpoints `base`, `code` and `math`, of four layers each."""
    folder = tmp_path_factory.mktemp("models")
    for seed, name in enumerate(("base", "code", "math")):
        write_checkpoint(folder / name, llama(4, seed=seed), llama_config(4))
    return folder
