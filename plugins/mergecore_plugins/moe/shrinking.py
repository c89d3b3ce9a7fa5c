"""The config of a model of the same kind that is tiny; read `tiny`."""

from __future__ import annotations

import copy
from collections.abc import Mapping

from mergecore.types import Json
from mergecore_plugins.moe.dense import head_counts, number

HEADS, WIDTH, INNER, WORDS, LAYERS, WINDOW = 2, 16, 24, 32, 8, 4
_LENGTH_OF_HALF = ("short_factor", "long_factor")


def tiny(config: Mapping[str, Json]) -> dict[str, Json]:
    """A config with the same meaning, of a model so small that it takes no time."""
    made = copy.deepcopy(dict(config))
    heads, shared, width = head_counts(config)
    narrow = heads * width == number(config, "hidden_size")
    count = _layers(made)
    made |= {
        "num_attention_heads": HEADS,
        "num_key_value_heads": HEADS if shared == heads else 1,
        "hidden_size": HEADS * WIDTH if narrow else HEADS * WIDTH - 8,
        "intermediate_size": INNER,
        "vocab_size": WORDS,
        "num_hidden_layers": count,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
    }
    if number(config, "head_dim"):
        made["head_dim"] = WIDTH
    else:
        made.pop("head_dim", None)
    if number(config, "sliding_window"):
        made["sliding_window"] = WINDOW
    if (multiplier := config.get("query_pre_attn_scalar")) == width and multiplier:
        made["query_pre_attn_scalar"] = WIDTH
    layers = number(config, "num_hidden_layers") or count
    if (number(config, "max_window_layers") or 0) >= layers:
        made["max_window_layers"] = count
    for key, value in made.items():
        if isinstance(value, list) and len(value) == layers:
            made[key] = value[:count]
    _shorten(made)
    return made


def _layers(config: Mapping[str, Json]) -> int:
    """As many layers as show all kinds of them."""
    layers = number(config, "num_hidden_layers") or 1
    lists = [value for value in config.values() if isinstance(value, list) and len(value) == layers]
    few = min(layers, LAYERS)
    same = all({str(one) for one in value} == {str(one) for one in value[:few]} for value in lists)
    return few if same and not isinstance(config.get("max_window_layers"), int) else layers


def _shorten(config: dict[str, Json]) -> None:
    """Cut lists with a factor for each pair of numbers of a head."""
    for key in ("rope_parameters", "rope_scaling"):
        rope = config.get(key)
        if not isinstance(rope, dict):
            continue
        part = rope.get("partial_rotary_factor") or config.get("partial_rotary_factor") or 1.0
        length = int(WIDTH * part) // 2 if isinstance(part, int | float) else WIDTH // 2
        for name in _LENGTH_OF_HALF:
            if isinstance(factors := rope.get(name), list):
                rope[name] = factors[:length]
