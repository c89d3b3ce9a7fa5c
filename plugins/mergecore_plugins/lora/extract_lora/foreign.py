"""What `mergecore extract-lora` does about the options of mergekit-extract-lora."""

from __future__ import annotations

from mergecore.cli import SHARED, ForeignCommand

_WORDS = "write models and output as words: mergecore extract-lora FINETUNED BASE OUT"
_NO_REGEX = "takes names, patterns with * and roles, and no regular expressions"
_BOTH = "the scale lies on both factors"
_PROCESSOR = "adapters are made on the processor"
_DEVICES = ("device", "compute_device", "load_to_compute", "cuda", "read_to_gpu", "multi_gpu", "gpu_rich")


class ExtractCommand(ForeignCommand):
    """A command that understands the options of mergekit-extract-lora."""

    foreign = SHARED.extended(
        renamed={
            "max_rank": "--rank {value}",
            "sv_epsilon": "--min-value {value}",
            "embed_lora": "--embeddings lora",
            "no_embed_lora": "--embeddings save",
            "skip_undecomposable": "--only-linear",
        },
        harmless={
            "distribute_scale": _BOTH,
            "no_distribute_scale": _BOTH,
            **dict.fromkeys(_DEVICES, _PROCESSOR),
        },
        with_value={"device", "compute_device"},
        elsewhere={
            **dict.fromkeys(("model", "base_model", "out_path"), _WORDS),
            **dict.fromkeys(("include_regex", "i"), f"--include {_NO_REGEX}"),
            **dict.fromkeys(("exclude_regex", "e"), f"--exclude {_NO_REGEX}"),
            "save_module": "what has no factors is always stored whole, embeddings by --embeddings save; leave it out",
            "allow_crimes": "a fine-tune has the tensors of its base; leave it out",
            "unsafe_truncate_embeddings": "nothing is cut off here: embeddings of another size are stored whole; "
            "leave it out",
        },
        program="mergekit-extract-lora",
        does="makes an adapter",
    )
