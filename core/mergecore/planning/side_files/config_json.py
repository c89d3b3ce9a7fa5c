"""config.json of the output: the primary model's, as raw JSON, with what the tensors make untrue put right.

Read `output_config`.  Everything not named here is kept as it was written.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

from mergecore.files.dtypes import DTYPES
from mergecore.models.config_json import may_untie
from mergecore.models.layers import nested_configs
from mergecore.planning.side_files.per_layer import restack
from mergecore.types import Json, Layers

DTYPE_KEYS = ("dtype", "torch_dtype")
TIE = "tie_word_embeddings"


def output_config(
    primary: Mapping[str, Json],
    *,
    dtype: str | None,
    stackings: Sequence[Layers] = (),
    untied: bool = False,
    architecture: str | None = None,
) -> tuple[dict[str, Json], list[str]]:
    """The config, and what the user should know about it.

    dtype: header name of the format that most of the output is in, None to leave the primary model's word.
    untied: the head is written although the primary model ties it to the embeddings.
    architecture: takes the place of `architectures`.
    """
    kept = {key: value for key, value in primary.items() if not key.startswith("_") or key in _OF_DIFFUSERS}
    config = {key: _without_paths(value) for key, value in kept.items()}
    warnings: list[str] = []
    if dtype is not None and not is_of_diffusers(primary):
        _set_dtype(config, str(DTYPES[dtype].torch_name))
    for layers in stackings:
        warnings += restack(config, layers)
    if untied and not may_untie(primary):
        warnings.append(f"the head is written on its own; {TIE} stays, since encoder and decoder need it")
    elif untied:
        config[TIE] = False
        for _, section in nested_configs(config):
            if section.get(TIE) is True:
                cast("dict[str, Json]", section)[TIE] = False
        warnings.append("the head is written on its own, so tie_word_embeddings becomes false")
    if architecture is not None:
        config["architectures"] = [architecture]
    return config, warnings


def is_of_diffusers(config: Mapping[str, Json]) -> bool:
    """Whether a config belongs to diffusers, which knows no dtype in it and has other names for weight files."""
    return "_class_name" in config


_OF_DIFFUSERS = ("_class_name", "_diffusers_version")


def _without_paths(value: Json) -> Json:
    """A copy without the paths from which its parts were once loaded."""
    if isinstance(value, dict):
        return {key: _without_paths(item) for key, item in value.items() if key != "_name_or_path"}
    return [_without_paths(item) for item in value] if isinstance(value, list) else value


def _set_dtype(config: dict[str, Json], word: str) -> None:
    """Write the dtype under the keys that are there; under the older one, which all readers know, if none is."""
    sections = [config, *(value for value in config.values() if isinstance(value, dict))]
    for section in sections:
        for key in DTYPE_KEYS:
            if key in section and not isinstance(section[key], dict):
                section[key] = word
    if not any(key in config for key in DTYPE_KEYS):
        config["torch_dtype"] = word
