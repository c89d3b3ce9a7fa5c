"""What planning costs: calls of functions, which are the same on every machine, and the same for each tensor."""

from __future__ import annotations

import gc
import re
import sys
from pathlib import Path
from types import FrameType

import pytest
import torch
from tiny import llama_config, registry, write_checkpoint

from mergecore import plan
from mergecore.plugins.registry import Registry
from mergecore.types import Json

CASES: list[Json] = [
    {"filter": "re:up_.*", "value": [0, 0.5, 1]},
    {"filter": "glob:*down*", "value": 0.3},
    {"value": 1},
]
CONFIGS: dict[str, dict[str, Json]] = {
    "constants": {"parameters": {"weight": 0.5, "density": 0.5}},
    "gradients": {"parameters": {"weight": [0, 0.2, 1], "density": [0.1, 1]}},
    "filters": {"parameters": {"weight": CASES, "density": CASES[1:]}},
    "no dtype": {},
}


def calls_of_a_plan(folder: Path, experts: int, registry: Registry, more: dict[str, Json]) -> int:
    """How many functions of Python are called to plan a merge of models with so many experts a layer."""
    names = [
        f"model.layers.{layer}.mlp.experts.{expert}.{part}_proj.weight"
        for layer in range(4)
        for expert in range(experts)
        for part in ("up", "down")
    ]
    tensors = {name: torch.zeros(1, 1) for name in names}
    models = []
    for model in "abc":
        write_checkpoint(folder / model, tensors, config=llama_config(4))
        models.append(str(folder / model))
    entries: list[Json] = [{"model": model} for model in models[1:]]
    config: dict[str, Json] = {"merge_method": "ties", "base_model": models[0], "models": entries, **more}
    config.setdefault("parameters", {"weight": 1, "density": 1})
    count = 0

    def note(frame: FrameType, event: str, argument: object) -> None:
        nonlocal count
        count += event == "call"

    gc.collect()
    gc.disable()  # what other tests left behind would be cleared away, and counted, at some time
    sys.setprofile(note)
    try:
        plan(config, registry=registry)
    finally:
        sys.setprofile(None)
        gc.enable()
    return count


@pytest.mark.parametrize("name", CONFIGS)
def test_each_further_tensor_costs_the_same_few_calls(name: str, tmp_path: Path) -> None:
    plugins = registry()
    more = dict(CONFIGS[name])
    re.purge()  # a full cache drops patterns, which are then made again in one of the plans
    calls_of_a_plan(tmp_path / "first", 1, plugins, more)  # what is loaded once
    small, middle, large = (
        calls_of_a_plan(tmp_path / str(experts), experts, plugins, more) for experts in (20, 40, 80)
    )
    each = (middle - small) / (4 * 2 * 20)
    assert (large - middle) / (4 * 2 * 40) == pytest.approx(each, rel=0.02)  # no tensor looks at all others
    assert each < MOST


MOST = 350
"""Calls for a tensor of three models: 266 for constants, 300 for gradients and filters."""
