"""config.json of the output: the donor's, as raw JSON, with what the tensors make untrue put right.

Read `output_config`.  Everything not named here is kept as it was written.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from mergecore.dtypes import DTYPES
from mergecore.types import Json

DTYPE_KEYS = ("dtype", "torch_dtype")

_LAYER_INDICES = re.compile(
    r"mlp_only_layers|moe_layers|cross_attention_layers|full_attn_idxs|attn_layer_indices|hybrid_layer_ids"
    r"|local_layer_ids|no_rope_layer_ids|ple_layer_ids|(invalid|non_linear)_ple_layers"
)
"""Keys whose lists hold numbers of layers, not one value for each."""

_OTHER_LISTS = re.compile(
    r"architectures|keys_to_ignore_at_inference|(bad_words|forced_decoder)_ids|\w*token(s|_ids?)"
)
"""Keys whose lists have nothing to do with layers, whatever their length."""

_FIRST_LAYERS = ("first_k_dense_replace", "max_window_layers", "num_dense_layers")
"""Keys that hold a number of leading layers; right for any stacking only while they are 0 or all layers."""


@dataclass(frozen=True)
class Stacking:
    """The layers of the output: where config.json counts them, and for each the config it comes from and its index."""

    count_key: tuple[str, ...]
    layers: Sequence[tuple[Mapping[str, Json], int]]


def output_config(
    donor: Mapping[str, Json],
    *,
    dtype: str | None,
    stacking: Stacking | None = None,
    untied: bool = False,
    architecture: str | None = None,
) -> tuple[dict[str, Json], list[str]]:
    """The config, and what the user should know of it.

    dtype: header name of the format that most of the output is in, None to leave the donor's word.
    untied: the head is written although the donor ties it to the embeddings.
    architecture: takes the place of `architectures`.
    """
    config = {key: _without_paths(value) for key, value in donor.items() if not key.startswith("_")}
    warnings: list[str] = []
    if dtype is not None:
        _set_dtype(config, str(DTYPES[dtype].torch_name))
    if stacking is not None:
        warnings += _restack(config, stacking)
    if untied:
        config["tie_word_embeddings"] = False
        warnings.append("the head is written on its own, so tie_word_embeddings becomes false")
    if architecture is not None:
        config["architectures"] = [architecture]
    return config, warnings


def _without_paths(value: Json) -> Json:
    """A copy without the paths from which its parts were once loaded."""
    if isinstance(value, dict):
        return {key: _without_paths(item) for key, item in value.items() if key != "_name_or_path"}
    return copy.deepcopy(value)


def _set_dtype(config: dict[str, Json], word: str) -> None:
    """Write the dtype under the keys that are there; under the older one, which all readers know, if none is."""
    sections = [config, *(value for value in config.values() if isinstance(value, dict))]
    for section in sections:
        for key in DTYPE_KEYS:
            if key in section and not isinstance(section[key], dict):
                section[key] = word
    if not any(key in config for key in DTYPE_KEYS):
        config["torch_dtype"] = word


def _restack(config: dict[str, Json], stacking: Stacking) -> list[str]:
    *path, key = stacking.count_key
    section = _section(config, path)
    before = section[key]
    assert isinstance(before, int)
    count = len(stacking.layers)
    same = [index for _, index in stacking.layers] == list(range(before))
    warnings: list[str] = []
    for name, value in list(section.items()):
        if isinstance(value, list) and _LAYER_INDICES.fullmatch(name):
            section[name] = _renumbered(name, path, stacking)
        elif isinstance(value, list) and len(value) == before and not _OTHER_LISTS.fullmatch(name):
            section[name] = _picked(name, path, value, stacking)
        elif name in _FIRST_LAYERS and isinstance(value, int) and value >= before:
            section[name] = count
        elif not same and value and (name in _FIRST_LAYERS or (isinstance(value, list) and "layer" in name)):
            warnings.append(f"{name} stays {value}; check that it fits the stacked layers")
    section[key] = count
    return warnings


def _picked(name: str, path: Sequence[str], donor: list[Json], stacking: Stacking) -> Json:
    """For each output layer the entry of the layer it comes from; the donor's where its model has no such list."""
    picked: list[Json] = []
    for source, index in stacking.layers:
        values = _section(source, path).get(name)
        row = values if isinstance(values, list) and index < len(values) else donor
        picked.append(copy.deepcopy(row[min(index, len(row) - 1)]))
    return picked


def _renumbered(name: str, path: Sequence[str], stacking: Stacking) -> Json:
    """The output layers whose source layer is in the list of its model."""
    kept: list[Json] = []
    for i, (source, index) in enumerate(stacking.layers):
        values = _section(source, path).get(name)
        if isinstance(values, list) and index in values:
            kept.append(i)
    return kept


def _section(config: Mapping[str, Json], path: Sequence[str]) -> dict[str, Json]:
    """The part of a config at `path`; an empty one where it has none."""
    section: Json = cast("dict[str, Json]", config)
    for key in path:
        section = section.get(key) if isinstance(section, dict) else None
    return section if isinstance(section, dict) else {}
