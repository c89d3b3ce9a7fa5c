"""What several tests of plans of merges share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tiny import llama_config, registry, write_checkpoint
from torch import Tensor

from mergecore import Plan, plan
from mergecore.errors import MergecoreError, Problems
from mergecore.types import Step
from mergecore.types.plans import PlanOptions

Config = dict[str, Any]


Q = "model.layers.0.self_attn.q_proj.weight"


def planned(config: Config, **options: Any) -> Plan:
    return plan(config, registry=registry(), options=PlanOptions(**options))


def refused(config: Config, **options: Any) -> list[str]:
    """The codes and texts of everything that is wrong."""
    with pytest.raises(MergecoreError) as caught:
        planned(config, **options)
    errors = caught.value.errors if isinstance(caught.value, Problems) else (caught.value,)
    return [f"{one.code} {one}" for one in errors]


def step_of(made: Plan, name: str) -> Step:
    return next(step for step in made.steps if step.name == name)


def names(made: Plan) -> list[str]:
    return [step.name for step in made.steps]


def sources(made: Plan, name: str) -> list[str]:
    """Where an output tensor comes from, the base last."""
    step = step_of(made, name)
    inputs = [*step.inputs, *([step.base] if step.base else [])]
    return [f"{made.models[one.model].name} {one.tensor.name}" for one in inputs]


def linear(*models: str, **extra: Any) -> Config:
    entries = [{"model": f"m/{name}", "parameters": {"weight": 1}} for name in models]
    return {"merge_method": "linear", "models": entries, **extra}


def ties(*models: str, base: str | None = "base", **extra: Any) -> Config:
    start = {"base_model": f"m/{base}"} if base else {}
    return {**linear(*models), "merge_method": "ties", **start, **extra}


def slerp(*models: str, base: str = "base") -> Config:
    entries = [{"model": f"m/{name}"} for name in models]
    return {"merge_method": "slerp", "base_model": f"m/{base}", "models": entries, "parameters": {"t": 0.5}}


def stacked(method: str, *slices: list[tuple[str, int, int]], **extra: Any) -> Config:
    made = [
        {"sources": [{"model": f"m/{name}", "layer_range": [first, end]} for name, first, end in one]}
        for one in slices
    ]
    return {"merge_method": method, "slices": made, **extra}


def write(name: str, tensors: dict[str, Tensor], layers: int = 2, **changes: Any) -> None:
    write_checkpoint(Path("m") / name, tensors, llama_config(layers, **changes))
