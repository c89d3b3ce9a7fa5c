"""What several tests of folders of models share."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mergecore.errors import MergecoreError
from mergecore.models.folder import open_folder
from mergecore.types import Checkpoint, ModelReference

Arrays = dict[str, np.ndarray[Any, Any]]


ONE, TWO = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"


INDEX = "model.safetensors.index.json"


CONFIG: dict[str, Any] = {"model_type": "llama", "num_hidden_layers": 2, "vocab_size": 6, "hidden_size": 4}


def arrays() -> Arrays:
    shapes = {"model.embed_tokens.weight": (6, 4), "model.norm.weight": (4,), "lm_head.weight": (6, 4)}
    shapes |= {f"model.layers.{i}.mlp.up_proj.weight": (8, 4) for i in range(2)}
    return {name: np.full(shape, i, np.float32) for i, (name, shape) in enumerate(shapes.items())}


def write(folder: Path, name: str, content: object) -> None:
    path = folder / name
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")


def edit_index(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    index = json.loads((folder / INDEX).read_text())
    change(index)
    write(folder, INDEX, index)


def opened(folder: Path) -> Checkpoint:
    return open_folder(folder, ModelReference("m/bad"))


def refusal(folder: Path, code: str, text: str) -> MergecoreError:
    with pytest.raises(MergecoreError, match=text) as caught:
        opened(folder)
    assert caught.value.code == code
    return caught.value
