"""Tiny dense models, each written once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tiny_moe import write_dense

WriteDense = Callable[..., Path]


@pytest.fixture(scope="session")
def dense(tmp_path_factory: pytest.TempPathFactory) -> WriteDense:
    """A function that gives the folder of a dense model by its name and seed."""
    folder = tmp_path_factory.mktemp("dense")

    def find(name: str = "llama", seed: int = 0) -> Path:
        there = folder / f"{name}-{seed}"
        return there if there.exists() else write_dense(there, name, seed)

    return find
