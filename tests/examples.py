"""The example config that every merge method brings: its models written, the config planned."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent
from typing import Any

from tiny import write_llama

from mergecore import MergeMethod, Plan, plan
from mergecore.config.grammar import read_config
from mergecore.files.yaml_document import parse_document
from mergecore.planning.opened import references
from mergecore.plugins.registry import Registry
from mergecore.types import Json, Step

LAYERS = 4


def example_config(method: MergeMethod[Any], registry: Registry, folder: Path) -> dict[str, Json]:
    """The example of a method, with its models written to `folder` and named by their full paths."""
    text = dedent(method.example)
    document = parse_document(text, f"{method.name}.yml")
    config = read_config(document, lambda name: registry.get(MergeMethod, name).params)
    for seed, (reference, _) in enumerate(references(config)):
        assert reference.path.startswith("./"), (
            f"the example of {method.name} has another path: {reference.path}"
        )
        if not (folder / reference.path).exists():
            write_llama(folder / reference.path, LAYERS, seed=seed)
        text = text.replace(f"{reference.path}\n", f"{folder / reference.path}\n")
        text = text.replace(f"{reference.path},", f"{folder / reference.path},")
    return dict(parse_document(text, f"{method.name}.yml").data)


def example_plan(method: MergeMethod[Any], registry: Registry, folder: Path) -> Plan:
    """The plan of a method's example."""
    return plan(example_config(method, registry, folder), registry=registry)


def example_step(method: MergeMethod[Any], registry: Registry, folder: Path) -> Step:
    """The step of a matrix in a middle layer, where gradients are neither at their beginning nor at their end."""
    steps = {step.name: step for step in example_plan(method, registry, folder).steps}
    return steps["model.layers.1.self_attn.q_proj.weight"]
