"""From a model reference to an open checkpoint and what is known about its tensors; read `opener` first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mergecore.names.on_demand import on_demand

if TYPE_CHECKING:
    from mergecore.models.config_json import may_untie, vocabulary_sizes
    from mergecore.models.folder import is_side_file, is_terms, open_adapter, open_file, open_folder
    from mergecore.models.input_folder import InputFolder, RemoteFile, list_folder
    from mergecore.models.layers import (
        LAYER_COUNT_KEYS,
        NestedConfig,
        find_stacks,
        is_text,
        layer_counts,
        nested_configs,
        split_name,
        without_layers_ahead,
    )
    from mergecore.models.refine import refinement
    from mergecore.models.safetensors import read_header
    from mergecore.models.shards import Weights, is_pickle, pickled_file
    from mergecore.models.torch_files.archive import read_tensor, read_torch
    from mergecore.models.torch_files.walking import Allowed, Make, Record, walked
else:
    __getattr__, __dir__ = on_demand(
        __name__,
        {
            "config_json": "may_untie vocabulary_sizes",
            "folder": "is_side_file is_terms open_adapter open_file open_folder",
            "input_folder": "InputFolder RemoteFile list_folder",
            "layers": "LAYER_COUNT_KEYS NestedConfig nested_configs find_stacks is_text layer_counts split_name "
            "without_layers_ahead",
            "refine": "refinement",
            "safetensors": "read_header",
            "shards": "Weights is_pickle pickled_file",
            "torch_files.archive": "read_tensor read_torch",
            "torch_files.walking": "Allowed Make Record walked",
        },
    )

__all__ = [
    "LAYER_COUNT_KEYS",
    "Allowed",
    "InputFolder",
    "Make",
    "NestedConfig",
    "Record",
    "RemoteFile",
    "Weights",
    "find_stacks",
    "is_pickle",
    "is_side_file",
    "is_terms",
    "is_text",
    "layer_counts",
    "list_folder",
    "may_untie",
    "nested_configs",
    "open_adapter",
    "open_file",
    "open_folder",
    "pickled_file",
    "read_header",
    "read_tensor",
    "read_torch",
    "refinement",
    "split_name",
    "vocabulary_sizes",
    "walked",
    "without_layers_ahead",
]
