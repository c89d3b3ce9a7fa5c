"""A model whose next tokens differ, texts for it, and functions that say how good it is."""

from __future__ import annotations

from pathlib import Path

import pytest
from scored_models import TEXTS

from mergecore.testing import tiny_model

CODE = """
from mergecore.types import Score

def size(model, more=0):
    return sum(one.numel() for one in model.module().parameters()) + more

def two(model):
    return {"a": 1, "b": 2.5}

def own(model):
    return [Score(name="mine", value=0.5, goal="max", samples=2, per_sample=(0.0, 1.0))]

def fails(model):
    raise ValueError("no luck")

def odd(model):
    return [3]
"""


@pytest.fixture
def sharp(tmp_path: Path) -> Path:
    """A model whose next tokens differ, in float32."""
    return tiny_model(
        tmp_path / "sharp", seed=5, change=lambda tensors: {key: 6 * one for key, one in tensors.items()}
    )


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    (tmp_path / "dev.txt").write_text("\n\n".join(TEXTS) + "\n")
    return tmp_path / "dev.txt"


@pytest.fixture
def code(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(CODE)
    return tmp_path / "mine.py"
