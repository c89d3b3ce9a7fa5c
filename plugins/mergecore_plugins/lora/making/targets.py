"""What adapter_config.json says of ranks and of the base; read `patterns_of`."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from mergecore.types import Json, ModelReference


def patterns_of(ranks: Mapping[str, int]) -> tuple[int, dict[str, Json]]:
    """The rank that most modules have, and those of the others: long names first, as PEFT takes the first that fits."""
    usual = Counter(ranks.values()).most_common(1)[0][0]
    names = sorted(ranks, key=lambda name: (-len(name), name))
    return usual, {name: ranks[name] for name in names if ranks[name] != usual}


def named_base(base: ModelReference | None) -> str | None:
    """The base as it may be written: an id of the hub, a folder within the one we are in, or the name of another."""
    if base is None:
        return None
    path = Path(base.path.removeprefix("hf:"))
    near = not path.is_absolute() and ".." not in path.parts and len(path.parts) < 3
    return str(path) if near else path.name


def card_of(named: str, task: str | None) -> dict[str, Json]:
    """The metadata that the hub knows adapters by; `named` is the base, which counts where it may be an id there."""
    found: dict[str, Json] = {"library_name": "peft", "tags": ["peft", "lora", "mergecore"]}
    if task == "CAUSAL_LM":
        found["pipeline_tag"] = "text-generation"
    if _HUB_ID.fullmatch(named):
        found |= {"base_model": named, "base_model_relation": "adapter"}
        found["tags"] = [f"base_model:adapter:{named}", "peft", "lora", "mergecore"]
    return found


_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)
