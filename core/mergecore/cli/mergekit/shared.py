"""What every command does about the options that all of mergekit's commands have."""

from __future__ import annotations

import re

from mergecore.cli.mergekit.command import ForeignOptions
from mergecore.config.leftovers import OPTIONS


def size_of(value: str) -> str:
    """A size in mergekit's words, such as 5B, in bytes."""
    size = re.fullmatch(r"(\d+)([kmb]?)", value.lower())
    return str(int(size[1]) * {"": 1, "k": 10**3, "m": 10**6, "b": 10**9}[size[2]]) if size else value


SHARED = ForeignOptions(
    renamed={
        "random_seed": "--seed {value}",
        "num_threads": "--threads {value}",
        "out_shard_size": "--shard-size {value}",
        "max_shard_size": "--shard-size {value}",
        "compute_device": "--device {value}",
        "force": "--overwrite",
        "f": "--overwrite",
    },
    harmless={
        **OPTIONS,
        "no_quiet": "everything is reported unless --quiet is given",
        "no_allow_crimes": "models of different architectures are refused unless --allow-crimes is given",
        "storage_device": "--max-memory bounds the memory",
        "load_to_compute": "--device chooses where to compute",
        **dict.fromkeys(("no_bf16", "no_fp16"), "'dtype:' in the config sets it"),
        "no_print_yaml": "no config is printed",
        "no_write_model_card": "'side_files: {model_card: false}' in the config leaves the card out",
        "no_unsafe_truncate_embeddings": "nothing is ever cut off",
    },
    with_value={
        "out_shard_size",
        "write_threads",
        "num_threads",
        "transformers_cache",
        "lora_merge_cache",
        "lora_merge_dtype",
        "storage_device",
    },
    elsewhere={
        "unsafe_truncate_embeddings": "nothing is cut off here: 'tokenizer_source:' in the config matches rows by "
        "token",
    },
    values={"out_shard_size": size_of},
)
