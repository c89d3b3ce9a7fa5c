"""adapter_config.json of what is extracted; read `adapter_config`."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable

from mergecore.types import Checkpoint, Json
from mergecore_plugins.lora.extract_lora.choosing import ALWAYS_SAVED, Choice, task_of
from mergecore_plugins.lora.extract_lora.pairs import Pairs
from mergecore_plugins.lora.making.targets import named_base, patterns_of

NAME = "adapter_config.json"


def adapter_config(choice: Choice, found: Pairs, base: Checkpoint, base_name: str) -> bytes:
    """The file: every module by its full name, so that no other is meant."""
    ranks = {one.target: one.rank for one in choice.layers}
    ranks |= {name: one.rank for one in choice.layers for name in one.tied}
    usual, others = patterns_of(ranks)
    modules = [one.pair.module for one in choice.layers if one.kind != "experts"]
    modules += [name for one in choice.layers for name in one.tied]
    parameters: list[Json] = [one.pair.name for one in choice.layers if one.kind == "experts"]
    biased = choice.has_bias_layers
    value: dict[str, Json] = {
        "peft_type": "LORA",
        "task_type": _task(choice, found),
        "base_model_name_or_path": base_name or named_base(base.reference),
        "revision": base.revision,
        "inference_mode": True,
        "r": usual,
        "lora_alpha": usual,
        "rank_pattern": others,
        "alpha_pattern": others,
        "target_modules": _targets(modules, found.outer),
        **({"target_parameters": parameters} if parameters else {}),
        "modules_to_save": [*choice.saved] or None,
        "bias": "all" if choice.biases and not biased else "none",
        **({"lora_bias": True} if biased else {}),
        "fan_in_fan_out": any(one.kind == "transposed" for one in choice.layers),
        "lora_dropout": 0.0,
        "use_rslora": False,
        "use_dora": False,
        "init_lora_weights": True,
    }
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()


def _targets(modules: Iterable[str], known: Collection[str]) -> Json:
    """The modules by their names; as a regular expression where PEFT would take others for them that end so."""
    names = sorted(modules)
    wanted = set(names)
    words = {name.rpartition(".")[2] for name in names}
    alike = [one for one in known if one.rpartition(".")[2] in words and one not in wanted]
    if any(one.endswith(f".{name}") for one in alike for name in names):
        return "|".join(re.escape(name) for name in names)
    return [*names]


def _task(choice: Choice, found: Pairs) -> str | None:
    """The task; none where PEFT would look for a head in the file that is left out."""
    task = task_of(found.config)
    ends = ALWAYS_SAVED.get(task or "")
    heads = [name for name in found.outer if ends and name.endswith(ends) and any(found.within(name))]
    return task if all(_is_saved(name, choice) for name in heads) else None


def _is_saved(name: str, choice: Choice) -> bool:
    return any(f"{name}.".startswith(f"{one}.") for one in choice.saved)
