"""The small files of the output: config.json, the model card, and what is carried over from the donor."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from mergecore.card import model_card
from mergecore.config import MergeConfig
from mergecore.dtypes import DTYPES, nbytes
from mergecore.matching import Match, Models
from mergecore.output_config import Stacking, output_config
from mergecore.types import Json, Step

TOKENIZER_FILES = frozenset(
    {
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "added_tokens.json",
        "vocab.json",
        "merges.txt",
        "vocab.txt",
        "spiece.model",
        "sentencepiece.bpe.model",
        "tokenizer.model",
        "tekken.json",
        "tiktoken.model",
        "chat_template.jinja",
        "chat_template.json",
    }
)
"""What a tokenizer strategy decides about; every other side file comes from the donor."""


def is_tokenizer_file(name: str) -> bool:
    """Whether a side file belongs to the tokenizer or its chat templates."""
    return name in TOKENIZER_FILES or name.startswith("additional_chat_templates/")


def output_files(
    config: MergeConfig,
    models: Models,
    found: Match,
    steps: Sequence[Step],
    vocabulary: Mapping[str, Path | bytes],
    document: Mapping[str, Json],
) -> tuple[dict[str, Path | bytes], list[str]]:
    """The files by name, and what the user should know of them."""
    donor = models.checkpoints[models.donor]
    files: dict[str, Path | bytes] = {
        name: path
        for name, path in donor.side_files.items()
        if not is_tokenizer_file(name) and name != "config.json"
    }
    files |= vocabulary
    merged, warnings = output_config(
        donor.config,
        dtype=_main_dtype(steps),
        stacking=_stacking(models, found),
        untied=_untied(models, steps),
        architecture=donor.reference.architecture,
    )
    if donor.config:
        files["config.json"] = (json.dumps(merged, indent=2, ensure_ascii=False) + "\n").encode()
    files["README.md"] = model_card(config.name or "", config.merge_method, models.checkpoints, document)
    return files, warnings


def _main_dtype(steps: Sequence[Step]) -> str | None:
    """The floating format that most bytes of the output are in."""
    sizes: Counter[str] = Counter()
    for step in steps:
        if DTYPES[step.dtype].floating:
            sizes[step.dtype] += nbytes(step.dtype, step.shape)
    return max(sizes, key=lambda name: sizes[name]) if sizes else None


def _stacking(models: Models, found: Match) -> Stacking | None:
    key = models.descriptions[models.donor].layer_count_key
    if not found.layers or key is None:
        return None
    return Stacking(key, [(models.checkpoints[model].config, index) for model, index in found.layers])


def _untied(models: Models, steps: Sequence[Step]) -> bool:
    """Whether a tensor is written that the donor leaves out because another stands for it."""
    tied = models.descriptions[models.donor].tied
    return any(step.name in tied for step in steps)
