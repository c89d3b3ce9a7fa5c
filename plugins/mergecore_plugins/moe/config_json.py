"""config.json of a mixture: what all families say alike, and what its own says; read `mixture_config`."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from mergecore.types import Json, Mixture, MoeFamily
from mergecore_plugins.moe.dense import head_counts

COMMON = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "hidden_act",
    "max_position_embeddings",
    "initializer_range",
    "rms_norm_eps",
    "use_cache",
    "bos_token_id",
    "eos_token_id",
    "pad_token_id",
    "tie_word_embeddings",
    "attention_dropout",
)
"""What every family reads; it is stated even where the dense model leaves it to its defaults, as those differ."""

_AS_STATED = (
    "rope_theta",
    "rope_scaling",
    "rope_parameters",
    "original_max_position_embeddings",
    "partial_rotary_factor",
    "dtype",
    "torch_dtype",
    "transformers_version",
)
"""What is taken over where the dense model states it."""


def mixture_config(family: MoeFamily, mixture: Mixture) -> Callable[[dict[str, Json]], Mapping[str, Json]]:
    """What makes the config of the mixture of that of the dense model, in which dtype and vocabulary are right."""

    def edit(config: dict[str, Json]) -> Mapping[str, Json]:
        whole = {**mixture.config, **config}
        if whole.get("head_dim") is None:
            whole["head_dim"] = head_counts(whole)[2]
        kept = {key: whole[key] for key in (*COMMON, *family.keeps) if key in whole}
        stated = {key: config[key] for key in _AS_STATED if key in config}
        named: dict[str, Json] = {"architectures": [family.architecture], "model_type": family.name}
        return {**named, **kept, **_rope(whole, config), **stated, **family.config(mixture)}

    return edit


def _rope(whole: Mapping[str, Json], stated: Mapping[str, Json]) -> dict[str, Json]:
    """The positions as transformers 4 and other readers know them, where only version 5 is spoken to."""
    rope = whole.get("rope_parameters")
    if not isinstance(rope, dict) or any(isinstance(value, dict) for value in rope.values()):
        return {}
    found: dict[str, Json] = {}
    if "rope_theta" in rope and "rope_theta" not in stated:
        found["rope_theta"] = rope["rope_theta"]
    scaling = {
        key: value for key, value in rope.items() if key not in ("rope_theta", "partial_rotary_factor")
    }
    if scaling.get("rope_type", "default") != "default" and not stated.get("rope_scaling"):
        found["rope_scaling"] = scaling
    if "partial_rotary_factor" in rope:
        found["partial_rotary_factor"] = rope["partial_rotary_factor"]
    return found
