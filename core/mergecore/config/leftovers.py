"""Words of mergekit that mean nothing here and do no harm: in configs, and on the command line."""

from __future__ import annotations

from collections.abc import Mapping

from mergecore.types import Json

OBSOLETE = {
    "embed_slerp": "embeddings are merged like every other tensor; remove it",
    "input_model_parameters": "write 'parameters:' under each model",
    "residual_weight": "it never had an effect; remove it",
    "int8_mask": "it never changed a result; remove it",
    "allow_negative_weights": "it is a setting of a search, and its result needs it no more; remove it",
    "smooth": "it is a setting of a search, and its result needs it no more; remove it",
    "layer_granularity": "it is a setting of a search, and its result needs it no more; remove it",
}
"""Keys and parameters that other tools once read or still accept without effect; and what to do."""

OPTIONS = {
    "cuda": "computing is done on the processor unless --device says otherwise",
    "low_cpu_memory": "--max-memory bounds the memory",
    "lazy_unpickle": "safetensors are always read piece by piece; pickles are refused",
    "copy_tokenizer": "the tokenizer is copied, or made as 'tokenizer' in the config says",
    "clone_tensors": "nothing is shared between tensors",
    "trust_remote_code": "no code of a model is ever run",
    "out_shard_size": "--shard-size sets the size of a file in bytes, such as 5GB",
    "safe_serialization": "weights are written as safetensors",
    "write_model_card": "a model card is always written",
    "read_to_gpu": "--device chooses where to compute",
    "multi_gpu": "--device chooses where to compute",
    "gpu_rich": "--device chooses where to compute",
    "async_write": "reading, merging and writing always overlap",
    "write_threads": "-j sets the number of workers",
    "num_threads": "-j sets the number of workers",
    "transformers_cache": "HF_HUB_CACHE in the environment chooses the cache of the hub",
    "lora_merge_cache": "adapters need no cache",
    "lora_merge_dtype": "adapters need no dtype of their own",
}
"""Options of `mergekit-yaml` that a merge here can do without, and what stands for them."""

OTHER_DOCUMENTS: tuple[tuple[frozenset[str], str, str], ...] = (
    (
        frozenset({"genome"}),
        "this is a config of mergekit-evolve, which searches for parameters",
        "`mergecore import-config FILE` prints it as one for `mergecore search`",
    ),
    (
        frozenset({"layer_slices"}),
        "this is a config of bakllama; mergecore reads those of mergekit-yaml",
        "`mergecore import-config FILE` prints it as one",
    ),
)


def other_document(data: Mapping[str, Json]) -> tuple[str, str] | None:
    """What a mapping is if it is the config of another tool, and what to do; None when it may be one of ours."""
    if "search" in data:
        return "this config describes a search", "run `mergecore search CONFIG OUT`, or remove 'search'"
    if "merge_method" in data:
        return None
    return next(((what, hint) for keys, what, hint in OTHER_DOCUMENTS if keys <= data.keys()), None)
