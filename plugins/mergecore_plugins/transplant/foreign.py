"""What `mergecore transplant` does about the options of mergekit-tokensurgeon."""

from __future__ import annotations

from mergecore.cli import SHARED, ForeignCommand

_METHODS = {"randn": "random"}
_WEIGHTS = {"distance_proportional": "distance"}


def _method(value: str) -> str:
    return _METHODS.get(value, value).replace("_", "-")


def _weights(value: str) -> str:
    return _WEIGHTS.get(value, value).replace("_", "-")


def _pieces(value: str) -> str:
    return value.replace("_", "-")


_MATCHED = "tokens are matched by their text in any spelling, bytes included"


class TransplantCommand(ForeignCommand):
    """A command that understands the options of mergekit-tokensurgeon."""

    foreign = SHARED.extended(
        renamed={
            "k": "-k {value}",
            "cosine_similarity": "--metric cosine",
            "c": "--metric cosine",
            "nc": "--metric euclidean",
            "no_cosine_similarity": "--metric euclidean",
            "approximation_method": "--method {value}",
            "a": "--method {value}",
            "weight_scheme": "--weights {value}",
            "w": "--weights {value}",
            "subword_method": "--pieces {value}",
            "s": "--pieces {value}",
        },
        harmless={
            **dict.fromkeys(("prefix_match", "pm", "byte_match", "bm"), _MATCHED),
            "batch_size": "--max-memory bounds the memory",
            "no_magikarp": "all tokens count alike",
            "allow_crimes": "only the tokenizer of the donor, and its embeddings, are looked at",
            **dict.fromkeys(
                ("device", "compute_device", "load_to_compute"), "rows are made on the processor"
            ),
            **dict.fromkeys(
                ("cuda", "read_to_gpu", "multi_gpu", "gpu_rich"), "rows are made on the processor"
            ),
        },
        with_value={"prefix_match", "pm", "byte_match", "bm", "batch_size", "device", "compute_device"},
        elsewhere={
            "magikarp": "there is no filter of poorly trained tokens here; leave it out",
            **dict.fromkeys(("new_vocab_noise", "nvn"), "no noise is added to rows here; leave it out"),
            **dict.fromkeys(("new_vocab_scale", "nvs"), "rows are not scaled here; leave it out"),
            "unsafe_truncate_embeddings": "nothing is cut off here: rows are matched by token; leave it out",
        },
        values={
            "approximation_method": _method,
            "a": _method,
            "weight_scheme": _weights,
            "w": _weights,
            "subword_method": _pieces,
            "s": _pieces,
        },
        program="mergekit-tokensurgeon",
        does="changes the tokenizer of a model",
    )
