"""What an adapter is, in words and numbers; read `shown`."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import mergecore
from mergecore import PlanOptions, Registry
from mergecore.errors import MergecoreError
from mergecore.files import nbytes, size_text
from mergecore.types import Checkpoint, Json
from mergecore_plugins.lora.adapters import config_of
from mergecore_plugins.lora.config import LOW_RANK, AdapterConfig
from mergecore_plugins.lora.names import AdapterTensor, Use, parts_of


@dataclass(frozen=True)
class Shown:
    """An adapter, described."""

    path: str
    facts: Mapping[str, Json]
    modules: Mapping[str, int]
    """By kind, such as `self_attn.q_proj`, how many there are."""
    refused: tuple[str, ...]
    """Why it cannot be merged."""

    def as_json(self) -> dict[str, Json]:
        """Plain values, one key per fact."""
        return {"path": self.path, **self.facts, "modules": dict(self.modules), "refused": list(self.refused)}

    def as_text(self) -> str:
        """A line per fact."""
        lines = [self.path]
        for name, value in self.facts.items():
            if value not in (None, [], ""):
                text = ", ".join(map(str, value)) if isinstance(value, list) else _said(value)
                lines.append(f"  {name:<12} {text}")
        lines += [
            f"  {'module' if not i else '':<12} {kind} × {n}"
            for i, (kind, n) in enumerate(self.modules.items())
        ]
        lines += [f"  cannot be merged: {reason}" for reason in self.refused] or ["  can be merged"]
        return "\n".join(lines)


def shown(path: str, registry: Registry, offline: bool) -> Shown:
    """What the adapter at `path`, a folder or a hub id, is.

    Raises:
        MergecoreError: E701 when there is none, E250 when its files are damaged.
    """
    planner = mergecore.planner(registry=registry, options=PlanOptions(offline))
    opened = planner.open(path, adapter=True)
    parts = parts_of(opened.tensors.values())
    try:
        config = config_of(opened)
    except MergecoreError as error:
        if error.code != "E251":
            raise
        return Shown(path, _sizes(opened, parts), _kinds(parts), (str(error.what),))
    return Shown(path, {**_facts(config, parts), **_sizes(opened, parts)}, _kinds(parts), ())


def _facts(config: AdapterConfig, parts: list[AdapterTensor]) -> dict[str, Json]:
    ranks = sorted({one.tensor.shape[0] for one in parts if one.use in (Use.A, Use.EMBEDDING_A)})
    words = [
        ("rsLoRA", config.rslora),
        ("DoRA", config.dora),
        (config.residual or "", bool(config.residual)),
        ("trained biases", config.lora_bias or config.trained_bias != "none"),
        ("trained tokens", bool(config.token_rows)),
        ("parameters of experts", bool(config.target_parameters)),
    ]
    return {
        "kind": " ".join([config.kind, *(word for word, holds in words if holds)]),
        "base": config.base,
        "revision": config.base_revision,
        "ranks": [*ranks],
        "alpha": config.alpha
        if config.kind in LOW_RANK
        else config.raw.get("alpha", config.raw.get("lora_alpha")),
        "saved whole": [*sorted({_kind(one.module) for one in parts if one.use is Use.WHOLE})],
    }


def _sizes(opened: Checkpoint, parts: list[AdapterTensor]) -> dict[str, Json]:
    return {
        "parameters": sum(one.tensor.count for one in parts),
        "size": size_text(sum(nbytes(one.tensor.dtype, one.tensor.shape) for one in parts)),
        "dtypes": [*sorted({one.tensor.dtype for one in parts})],
        "tokenizer": "tokenizer.json" in opened.side_files or "tokenizer_config.json" in opened.side_files,
    }


def _kinds(parts: list[AdapterTensor]) -> dict[str, int]:
    """How many modules of each kind have an adapter."""
    modules = {one.module for one in parts if one.use is not Use.WHOLE}
    return dict(sorted(Counter(map(_kind, modules)).items()))


def _kind(module: str) -> str:
    """A module by its name in its layer."""
    return re.sub(r".*\.(layers|h|blocks?|layer)\.\d+\.", "", module)


def _said(value: Json) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)
