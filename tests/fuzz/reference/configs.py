"""What a merge config says about one tensor, from the grammar alone: filters, gradients, precedence, copies.

Read `value_of`: a parameter for a tensor, from the most particular place that says something to the default.
"""

from __future__ import annotations

import fnmatch
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fuzz.reference.methods import Parameter

ROLES = {
    "q_proj": "attn.q",
    "k_proj": "attn.k",
    "v_proj": "attn.v",
    "o_proj": "attn.o",
    "gate_proj": "mlp.gate",
    "up_proj": "mlp.up",
    "down_proj": "mlp.down",
    "layernorm": "norm",
    "model.norm": "norm",
    "embed_tokens": "embed",
    "lm_head": "head",
}
"""What tensors of a Llama do, by a part of their name."""


@dataclass(frozen=True)
class Spot:
    """A tensor as parameters see it: its name, and how far through the layers of its slice."""

    name: str
    t: float


def matches(pattern: str | None, name: str) -> bool:
    """Whether a filter means this tensor."""
    if pattern in (None, "*"):
        return True
    kind, _, rest = pattern.partition(":")
    if kind == "glob":
        return fnmatch.fnmatchcase(name, rest)
    if kind == "re":
        return re.search(rest, name) is not None
    if kind == "role":
        role = next((role for part, role in ROLES.items() if part in name), "")
        return role == rest or role.startswith(rest + ".")
    return pattern in name


def value_at(setting: Any, spot: Spot) -> Any:
    """The value of a setting for a tensor; None where it says nothing."""
    if isinstance(setting, dict):
        setting = [setting]
    if not isinstance(setting, list):
        return setting
    if setting and isinstance(setting[0], dict):
        for case in setting:
            if matches(case.get("filter"), spot.name):
                return value_at(case["value"], spot)
        return None
    return _between(setting, spot.t)


def _between(knots: Sequence[Any], t: float) -> Any:
    """A gradient at t: straight between numbers, steps between other values."""
    place = t * (len(knots) - 1)
    low = math.floor(place)
    if any(isinstance(one, bool | str) for one in knots):
        return knots[low]
    part = place - low
    return (1 - part) * knots[low] + part * knots[min(low + 1, len(knots) - 1)]


def value_of(name: str, parameter: Parameter, places: Sequence[Any], spot: Spot) -> Any:
    """The first place that says something, else the default."""
    for place in places:
        value = value_at((place or {}).get(name), spot)
        if value is not None:
            return value
    return parameter.default


def listed(patterns: Any) -> list[str]:
    """A filter or a list of them."""
    return [] if patterns is None else [patterns] if isinstance(patterns, str) else list(patterns)


def is_merged(config: dict[str, Any], name: str) -> bool:
    """Whether `include` and `exclude` let this tensor be merged; others are copied."""
    include, exclude = listed(config.get("include")), listed(config.get("exclude"))
    wanted = not include or any(matches(one, name) for one in include)
    return wanted and not any(matches(one, name) for one in exclude)


DTYPES = {"float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16"}


def written_dtype(config: dict[str, Any], stored: str, on_purpose: bool) -> str:
    """The format of a tensor: what the config wants, else the narrowest that holds its inputs.

    on_purpose: all inputs have more than 16 bits, beside others that have 16.
    """
    said = config.get("out_dtype") or config.get("dtype")
    if said is None:
        return stored
    kept = on_purpose and config.get("keep_f32", True) and DTYPES[said] in ("F16", "BF16")
    return stored if kept else DTYPES[said]
