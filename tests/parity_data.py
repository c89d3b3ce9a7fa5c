"""Checkpoints and what mergekit 0.1.5 made of them, unpacked from `parity/data/`.

The checkpoints are exact.  The results are kept on a grid of 2^-22, as differences to the base checkpoint,
which is all that a comparison to 2e-6 needs and a third smaller.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tiny import write_checkpoint
from torch import Tensor

DATA = Path(__file__).parent / "parity" / "data"
PRECISIONS = {"f32": torch.float32, "bf16": torch.bfloat16}
GRID = 2.0**22


@cache
def facts() -> dict[str, Any]:
    """The cases by name, the shapes by number of layers, and the config of the checkpoints."""
    found: dict[str, Any] = json.loads((DATA / "cases.json").read_text())
    return found


@cache
def models() -> Mapping[str, dict[str, Tensor]]:
    """The tensors of `f32/base`, `bf16/a`, …"""
    found: dict[str, dict[str, Tensor]] = {}
    with np.load(DATA / "models.npz") as stored:
        for name in stored.files:
            numbers = torch.from_numpy(stored[name].view(np.uint8)).view(PRECISIONS[name.split("/")[0]])
            found[name] = _divided(numbers, layout(3))
    return found


def layout(layers: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the tensors of a checkpoint of so many layers."""
    return {name: tuple(shape) for name, shape in facts()["layouts"][str(layers)].items()}


def expected(case: str) -> dict[str, Tensor]:
    """What mergekit made of a case, in float64, to 2^-23."""
    base = models()[f"{case.split('-')[0]}/base"]
    with np.load(DATA / "expected.npz") as stored:
        planes = stored[case]
    folded = sum(plane.astype(np.int64) << (8 * i) for i, plane in enumerate(planes))
    steps = torch.from_numpy((folded >> 1) ^ -(folded & 1))
    differences = _divided(steps, layout(facts()["cases"][case]["layers"]))
    return {
        name: (step + (base[name].double() * GRID).round() if name in base else step.double()) / GRID
        for name, step in differences.items()
    }


def write_models(folder: Path) -> None:
    """Write the checkpoints below `folder`."""
    for name, tensors in models().items():
        dtype = {"torch_dtype": str(PRECISIONS[name.split("/")[0]]).removeprefix("torch.")}
        write_checkpoint(folder / name, tensors, {**facts()["config"], **dtype})


def _divided(numbers: Tensor, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    parts = numbers.split([torch.Size(shape).numel() for shape in shapes.values()])
    return {name: part.view(shape) for (name, shape), part in zip(shapes.items(), parts, strict=True)}
