"""Gates of a document without the rest of the mixture: planned as a recipe plans them, and made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

import mergecore
from mergecore import Document
from mergecore.types import OutputTensor
from mergecore_plugins.moe.gating import GateKeys, GatePlan, PromptKeys, Router, gate_step
from mergecore_plugins.moe.gating.gates import Layer, gates
from mergecore_plugins.moe.gating.methods import GateParams
from mergecore_plugins.moe.gating.prompts import from_rows


def planned(model: Path | str, document: dict[str, Any]) -> tuple[mergecore.Checkpoint, GatePlan]:
    """The step of a document with `experts` and the keys of gates."""
    planner = mergecore.planner()
    opened = planner.open(str(model))
    keys = {key: value for key, value in document.items() if key in GateKeys.model_fields}
    experts = [PromptKeys(**one) for one in document["experts"]]
    shared = [PromptKeys(**one) for one in document.get("shared_experts", [])]
    width, layers = opened.config["hidden_size"], opened.config["num_hidden_layers"]
    assert isinstance(width, int)
    assert isinstance(layers, int)
    routers = [
        Router(OutputTensor(f"router.{i}", "F32", (len(experts), width)), i, 0, len(experts))
        for i in range(layers)
    ]
    read = Document("gates.yml", document)
    return opened, gate_step(read, planner, GateKeys(**keys), opened, routers, experts, shared)


def layers_of(model: Path | str, **document: Any) -> list[Layer]:
    """The gates of all layers."""
    opened, made = planned(model, document)
    params = made.step.params
    assert isinstance(params, GateParams)
    inputs = {str(number): one for number, one in enumerate(made.step.matrices)}
    with mergecore.open_tensors([opened, *opened.parts], inputs) as found:
        rows = found["0"].read(0, found["0"].shape[0], torch.int64).tolist()
        weights = {name: found[str(number)] for number, name in enumerate(params.layout.names, start=1)}
        return gates(params, weights, from_rows(rows))
