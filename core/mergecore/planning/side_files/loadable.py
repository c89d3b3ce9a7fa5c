"""Whether a model of selected layers can be loaded: asks the describers that know; read `fitted`."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from mergecore.errors import ConfigError
from mergecore.planning.opened import OpenedModels
from mergecore.planning.side_files.per_layer import UNSURE
from mergecore.planning.side_files.periods import cache_fault, settle_periods
from mergecore.types import Json, Layers, Loadability, Proposal, Step

Origins: TypeAlias = Mapping[str, Sequence[tuple[int, int]]]
"""Of each stack whose layers were selected, by its prefix: for each layer the model and layer that stand first."""


def fitted(
    models: OpenedModels,
    selected: Origins,
    steps: Sequence[Step],
    config: dict[str, Json],
    warnings: list[str],
    fit: Callable[[Proposal], Loadability | None],
    strict: bool,
) -> tuple[dict[str, Json], list[str]]:
    """The config, and the warnings that are left when a loader was asked.

    strict: faults are errors; they are warnings where the user allows that tensors are missing or left over.

    Raises:
        ConfigError: E113 when the layers make no model.
    """
    proposal = Proposal(
        primary=models.first,
        config=config,
        shapes={one.name: one.shape for step in steps for one in step.outputs},
        layers=stackings(models, selected),
    )
    judged = fit(proposal)
    if judged is None:
        told = settled(proposal, config, Loadability(config))
        unsure = "no installed plugin can tell whether a model of these layers loads"
        return config, [*warnings, unsure, *told]
    warnings = [text for text in warnings if not text.endswith(UNSURE)]
    if judged.faults:
        what = f"a model of these layers could not be loaded: {'; '.join(judged.faults)}"
        if strict:
            raise ConfigError("E113", what, hint="choose layers of the kind that is expected in their places")
        warnings.append(what)
    config = copy.deepcopy(dict(judged.config))
    return config, [*warnings, *settled(proposal, config, judged)]


def settled(proposal: Proposal, config: dict[str, Json], judged: Loadability) -> list[str]:
    """What to say about readers that take more for granted than the config says, which is put right."""
    told = cache_fault(config)
    for layers in proposal.layers:
        told += settle_periods(proposal.primary.config, config, layers, judged.lists.get(layers.stack, {}))
    return told


def stackings(models: OpenedModels, selected: Origins) -> tuple[Layers, ...]:
    """The layers that were selected, for each stack of which any were; a model without a config has the primary's."""
    primary = models.first.config
    description = models.descriptions[models.primary]
    keys = {one.stack.prefix: one.layer_count_key for one in description.modules if one.stack}
    if description.main:
        keys[description.main.prefix] = description.layer_count_key
    return tuple(
        Layers(
            stack=prefix,
            count_key=keys.get(prefix),
            sources=tuple((models.checkpoints[model].config or primary, index) for model, index in layers),
        )
        for prefix, layers in selected.items()
    )
