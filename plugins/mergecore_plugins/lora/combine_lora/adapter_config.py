"""adapter_config.json of merged adapters; read `combined_config`."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping

from mergecore.types import Json, ModelReference
from mergecore_plugins.lora.combine_lora.aligning import Aligned
from mergecore_plugins.lora.making.targets import named_base, patterns_of


def combined_config(found: Aligned, ranks: Mapping[str, int], base: ModelReference | None) -> bytes:
    """The file; `ranks` are those of the weights by their names."""
    parameters = [name for name in ranks if found.changes[name].kind == "experts"]
    modules = [_module(found, name) for name in ranks if found.changes[name].kind != "experts"]
    usual, others = patterns_of(
        {name if name in parameters else _module(found, name): rank for name, rank in ranks.items()}
    )
    configs = [one.config for one in found.adapters]
    saved, biases = _wholes(found)
    value: dict[str, Json] = {
        "peft_type": "LORA",
        "task_type": _shared([one.raw.get("task_type") for one in configs]),
        "base_model_name_or_path": named_base(base),
        "revision": base.revision if base else None,
        "inference_mode": True,
        "r": usual,
        "lora_alpha": usual,
        "rank_pattern": others,
        "alpha_pattern": others,
        "target_modules": _targets(modules),
        **({"target_parameters": [*parameters]} if parameters else {}),
        "modules_to_save": [*saved] or None,
        "bias": "all" if biases else "none",
        **({"lora_bias": True} if found.biases else {}),
        "fan_in_fan_out": any(one.fan_in_fan_out for one in configs),
        "lora_dropout": 0.0,
        "use_rslora": False,
        "use_dora": False,
        "init_lora_weights": True,
    }
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()


def _module(found: Aligned, name: str) -> str:
    """What PEFT calls the module of a weight, inside of what other modules wrap."""
    return found.changes[name].stem.replace(".base_layer.", ".")


def _targets(modules: Iterable[str]) -> Json:
    """The modules by their full names; as an expression where one is so short that others may end so."""
    names = sorted(modules)
    if all("." in name for name in names):
        return [*names]
    return "|".join(re.escape(name) for name in names)


def _shared(values: list[Json]) -> Json:
    """What all say; null where they differ."""
    return values[0] if all(one == values[0] for one in values) else None


def _wholes(found: Aligned) -> tuple[list[str], list[str]]:
    """The modules that are stored whole, and the biases that are."""
    wanted = {module for one in found.adapters for module in one.config.modules_to_save}
    saved: dict[str, None] = {}
    biases = []
    for name in found.wholes:
        module = saved_module(name, wanted)
        if module is None and name.endswith(".bias"):
            biases.append(name)
        else:
            saved[module or name.rpartition(".")[0]] = None
    return list(saved), biases


def saved_module(name: str, wanted: Iterable[str]) -> str | None:
    """The module to which a tensor belongs that is saved with all that is in it; None where there is none."""
    words = name.split(".")
    for count in range(1, len(words)):
        path = ".".join(words[:count])
        if any(f".{path}".endswith(f".{one}") for one in wanted):
            return path
    return None
