"""The small files of the output: config.json, the model card, and what is carried over from the donor."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from mergecore.files.dtypes import DTYPES, nbytes
from mergecore.models.folder import is_terms
from mergecore.models.layers import config_sections
from mergecore.models.module_folders import module_folder
from mergecore.planning.embedding_rows import Common
from mergecore.planning.matching import Match, Models
from mergecore.planning.side_files.card import model_card
from mergecore.planning.side_files.cleaning import as_json, cleaned
from mergecore.planning.side_files.config_json import TIE, output_config
from mergecore.planning.side_files.layers_ahead import settle_ahead
from mergecore.planning.side_files.loadable import fitted, stackings
from mergecore.planning.side_files.packages import with_transformer_beside
from mergecore.planning.side_files.per_layer import restack_heads
from mergecore.planning.side_files.special_ids import (
    GENERATION,
    SpecialIds,
    generation_config,
    set_vocabulary_size,
)
from mergecore.planning.side_files.terms import terms_files
from mergecore.tokenizers.files import is_tokenizer_file
from mergecore.types import Checkpoint, Fit, Json, Proposal, Step


def output_files(
    title: str,
    method: str,
    models: Models,
    found: Match,
    steps: Sequence[Step],
    common: Common,
    document: Mapping[str, Json],
    fit: Callable[[Proposal], Fit | None],
    strict: bool,
) -> tuple[dict[str, Path | bytes], list[str]]:
    """The files by name, and what the user should know of them.

    title, method: what the model card says of the model, and of how it was made.
    fit: tells whether a model of selected layers would load, and with which config; `strict`: it must.

    Raises:
        ConfigError: E113 when it would not.
    """
    donor = models.checkpoints[models.donor]
    files = {**_carried(donor), **common.vocabulary.files}
    merged, warnings = output_config(
        donor.config,
        dtype=_main_dtype(steps),
        stackings=stackings(models, found),
        untied=_untied(models, found, steps),
        architecture=donor.reference.architecture,
    )
    generation, changed = generation_config(donor), False
    if common.vocabulary.size is not None:
        set_vocabulary_size(merged, common.padded(common.vocabulary.size))
        rows = common.vocabulary.rows[models.donor] if common.vocabulary.rows else None
        ids = SpecialIds(common.vocabulary, donor, rows)
        ids.follow("config.json", merged)
        changed = ids.follow(GENERATION, generation)
        warnings += ids.warnings
    for one in stackings(models, found):
        changed |= restack_heads(generation, one, donor.config)
    if changed:
        files[GENERATION] = as_json(generation)
    if found.layers:
        merged, warnings = fitted(models, found, steps, merged, warnings, fit, strict)
    warnings += [*_borrowed_head(models, found, steps), *settle_ahead(merged, models, found, steps)]
    files = {**with_transformer_beside(files), **terms_files(models.checkpoints, files)}
    files, left_out = cleaned(files, merged if donor.config else {})
    files["README.md"] = model_card(title, method, models.checkpoints, document, models.donor)
    return files, [*warnings, *left_out, *_modules_of_some(models)]


def _carried(donor: Checkpoint) -> dict[str, Path]:
    """The side files about which nobody else decides."""
    decided = {name for name in donor.side_files if is_tokenizer_file(name) or is_terms(name)}
    return {
        name: path for name, path in donor.side_files.items() if name not in decided and name != "config.json"
    }


def _modules_of_some(models: Models) -> list[str]:
    """What to say of weights of modules that not all models have."""
    donor = models.checkpoints[models.donor]
    told = []
    for model in models.checkpoints:
        for other in models.checkpoints:
            folders = dict.fromkeys(
                module_folder(name) for name in model.tensors if name not in other.tensors
            )
            for folder in filter(None, folders):
                what = "copied from it, not merged" if model is donor else "left out"
                told.append(
                    f"weights in {folder} of {model.name} are {what}: {other.name} has no such weights"
                )
    return list(dict.fromkeys(one for one in told))


def _main_dtype(steps: Sequence[Step]) -> str | None:
    """The floating format that most bytes of the output are in."""
    sizes: Counter[str] = Counter()
    for step in steps:
        if DTYPES[step.dtype].floating:
            sizes[step.dtype] += nbytes(step.dtype, step.shape)
    return max(sizes, key=lambda name: sizes[name]) if sizes else None


def _untied(models: Models, found: Match, steps: Sequence[Step]) -> bool:
    """Whether a head is written that the donor leaves out because the embeddings stand for it, or that of others."""
    tied = models.descriptions[models.donor].tied
    heads = [step for step in steps if step.role.startswith("head")]
    if any(step.name in tied for step in heads):
        return True
    embeddings, heads = [step for step in steps if step.role == "embed"], _matrices(steps)
    config = models.checkpoints[models.donor].config
    says_tied = any(section.get(TIE) is True for _, section in config_sections(config))
    if not (found.layers and says_tied and heads and embeddings):
        return False
    return {one.model for one in heads[-1].inputs} != {one.model for one in embeddings[0].inputs}


def _matrices(steps: Sequence[Step]) -> list[Step]:
    """The heads that could be tied to embeddings, without what tied ones have beside them, such as biases."""
    shapes = {step.shape for step in steps if step.role == "embed"}
    return [step for step in steps if step.role.startswith("head") and step.shape in shapes]


def _borrowed_head(models: Models, found: Match, steps: Sequence[Step]) -> list[str]:
    """What to say of a head that is none of its own where first and last layers are of different models."""
    description = models.descriptions[models.donor]
    layers = found.layers.get(description.main.prefix, []) if description.main else []
    if not layers or not description.tied or _matrices(steps):
        return []
    first, last = (models.checkpoints[model].name for model, _ in (layers[0], layers[-1]))
    if first == last:
        return []
    return [
        f"the models have no head of their own, so the embeddings of {first}, which the first slice gives, are also "
        f"the head behind the last layers, which are {last}'s"
    ]
