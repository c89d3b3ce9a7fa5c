"""Every model class of the installed transformers, each with a config that makes a tiny model of it.

`tiny_model` is the way in.  Configs are shrunk by the names of their keys, in a few sizes, until the class
accepts one; what no rule can know stands in `settings`.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from zoo.settings import FILLED, LARGEST, SIZES, SPECIAL, Size, shrunk_number

TASKS = ("CAUSAL_LM", "MASKED_LM", "SEQ_TO_SEQ_CAUSAL_LM", "IMAGE_TEXT_TO_TEXT")

Changes = dict[str, Any]


@dataclass(frozen=True)
class Entry:
    """A class of models as transformers lists it."""

    model_type: str
    class_name: str

    def __str__(self) -> str:
        return f"{self.model_type}/{self.class_name}"


class CannotBuildError(Exception):
    """No config that is small enough makes a model of the class."""


def entries() -> list[Entry]:
    """Every pair of model type and class that generates or predicts text, in the order of transformers."""
    from transformers.models.auto import modeling_auto

    found: dict[Entry, None] = {}
    for task in TASKS:
        names = getattr(modeling_auto, f"MODEL_FOR_{task}_MAPPING_NAMES")
        found.update((Entry(model_type, name), None) for model_type, name in names.items())
    return list(found)


def tiny_model(entry: Entry, dtype: torch.dtype, seed: int = 0) -> Any:
    """A model of that class with normal random numbers in all its tensors.

    Raises:
        CannotBuildError: with what the class says of each size.
    """
    import transformers

    transformers.utils.logging.disable_progress_bar()
    logging.getLogger("transformers").setLevel(logging.CRITICAL)
    cls = getattr(transformers, entry.class_name)
    config = tiny_config(entry, cls)
    model = cls._from_config(config).to(dtype)
    generator = torch.Generator().manual_seed(seed)
    for tensor in model.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(torch.randn(tensor.shape, generator=generator))
    return model


def tiny_config(entry: Entry, cls: Any) -> Any:
    """The first config of which the class makes a model of a bearable size; on the meta device, so without one."""
    faults: dict[str, None] = {}
    for size in SIZES:
        for fill, cut in ((False, False), (False, True), (True, False), (True, True)):
            try:
                config = _config(entry, cls, size, fill, cut)
                with torch.device("meta"):
                    count = sum(one.numel() for one in cls._from_config(config).parameters())
            except Exception as error:  # noqa: BLE001  whatever the class objects to, another size may do
                faults[f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"] = None
                continue
            if count <= LARGEST:
                return config
            faults["it has too many parameters"] = None
    raise CannotBuildError(next(iter(faults)))


def _config(entry: Entry, cls: Any, size: Size, fill: bool, cut: bool) -> Any:
    """The config of a size; `fill` gives numbers to keys without one, `cut` shortens lists."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    kind = CONFIG_MAPPING[entry.model_type]
    special = SPECIAL.get(entry.class_name, {})
    changes = _merged(_shrunk(_default(kind, special), size, fill, cut), special)
    config = kind(**changes)
    wanted = getattr(cls, "config_class", None)
    if wanted is None or isinstance(config, wanted):
        return config
    return next((part for part in vars(config).values() if isinstance(part, wanted)), config)


def _default(kind: Any, special: Mapping[str, Any]) -> Any:
    """The config that the class has by default; some need a few words even for that."""
    try:
        return kind()
    except Exception:  # noqa: BLE001  its validation of defaults may raise anything
        return kind(**special)


def _shrunk(config: Any, size: Size, fill: bool, cut: bool) -> Changes:
    """What to change of a config, configs nested in it included."""
    from transformers import PreTrainedConfig

    changes: Changes = {}
    for key, value in vars(config).items():
        if key.startswith("_") or isinstance(value, bool):
            continue
        if isinstance(value, PreTrainedConfig):
            kind = {"model_type": value.model_type} if value.model_type else {}
            changes[key] = {**kind, **_shrunk(value, size, fill, cut)}
        elif isinstance(value, int):
            changes[key] = shrunk_number(key, value, size)
        elif value is None and fill and re.fullmatch(FILLED, key):
            changes[key] = 0 if key == "pad_token_id" else shrunk_number(key, 2**20, size)
        elif isinstance(value, list | tuple) and cut and value:
            changes[key] = _cut(key, value, size.layers)
    return {key: value for key, value in changes.items() if value != 2**20}


def _cut(key: str, values: Sequence[Any], layers: int) -> list[Any]:
    """A list of layers without those that are gone, another list no longer than there are layers."""
    numbers = all(type(value) is int for value in values)
    if numbers and max(values) >= layers and re.search(r"layer|index|idx|hybrid", key):
        return [value for value in values if value < layers] or [0]
    return list(values[:layers])


def _merged(one: Mapping[str, Any], other: Mapping[str, Any]) -> Changes:
    """`one` with what `other` says, key by key."""
    merged = dict(one)
    for key, value in other.items():
        before = merged.get(key)
        both = isinstance(before, dict) and isinstance(value, dict)
        merged[key] = _merged(before, value) if both and isinstance(before, dict) else value
    return merged
