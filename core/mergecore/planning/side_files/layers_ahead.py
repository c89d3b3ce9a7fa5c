"""Layers that predict tokens further ahead, and configs that promise missing ones; read `settle_ahead`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import cast

from mergecore.models.layers import AHEAD, nested_configs
from mergecore.planning.opened import OpenedModels
from mergecore.types import Description, Json, Step, TensorFacts

_PROMISES = re.compile(
    r"(num|n)_(nextn|mtp|multi_token)(_predict\w*?)?(_(layers|modules|blocks|depths?|heads))?"
    r"|(nextn|mtp|multi_token)(_predict\w*?)?(_num)?(_hidden)?_(layers|modules|blocks|depth)"
)
"""Keys that count such layers."""


def settle_ahead(config: dict[str, Json], models: OpenedModels, steps: Sequence[Step]) -> list[str]:
    """Set to 0 in `config` what counts such layers where no input has any; what the user should know."""
    promised = [
        (section, key, value)
        for _, section in nested_configs(config)
        for key, value in section.items()
        if _PROMISES.fullmatch(key) and isinstance(value, int) and not isinstance(value, bool) and value > 0
    ]
    if not promised or _written(models, steps):
        return []
    owners = [
        checkpoint.name
        for checkpoint, description in zip(models.checkpoints, models.descriptions, strict=True)
        if any(_is_ahead(name, facts, _counts(description)) for name, facts in description.tensors.items())
    ]
    told = []
    for section, key, value in promised:
        if owners:
            told.append(
                f"{key} stays {value}, but the output has no tensor of such a layer: {', '.join(owners)} "
                f"{'has' if len(owners) == 1 else 'have'} them, and they are left out"
            )
        else:
            cast("dict[str, Json]", section)[key] = 0
            told.append(f"{key} was {value} and becomes 0: no model has a tensor of such a layer")
    return told


def _written(models: OpenedModels, steps: Sequence[Step]) -> bool:
    """Whether a step makes a tensor of such a layer: by its name, or by that of the tensor it is made of."""
    counts = [_counts(description) for description in models.descriptions]
    return any(
        any(AHEAD.search(made.name) for made in step.outputs)
        or _is_ahead(
            one.tensor.name, _facts(models.descriptions[one.model], one.tensor.name), counts[one.model]
        )
        for step in steps
        for one in step.inputs[:1]
    )


def _facts(description: Description, name: str) -> TensorFacts:
    return description.tensors.get(name, TensorFacts())


def _counts(description: Description) -> dict[str, int]:
    return {stack.prefix: stack.count for stack in description.stacks}


def _is_ahead(name: str, facts: TensorFacts, counts: dict[str, int]) -> bool:
    """Whether a tensor is of such a layer: by its name, or since its layer is after those that are counted."""
    if AHEAD.search(name):
        return True
    return facts.layer is not None and facts.layer >= counts.get(facts.stack or "", facts.layer + 1)
