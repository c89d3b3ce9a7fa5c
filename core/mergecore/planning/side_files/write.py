"""The small files that the primary model gives the output: config.json, put right, and what is carried over."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from types import MappingProxyType

from mergecore.files.dtypes import DTYPES
from mergecore.models.folder import is_terms
from mergecore.models.layers import nested_configs
from mergecore.models.module_folders import module_folder
from mergecore.planning.opened import OpenedModels
from mergecore.planning.side_files.cleaning import as_json
from mergecore.planning.side_files.config_json import TIE, output_config
from mergecore.planning.side_files.layers_ahead import settle_ahead
from mergecore.planning.side_files.loadable import Origins, fitted, stackings
from mergecore.planning.side_files.per_layer import restack_heads
from mergecore.planning.side_files.special_ids import (
    GENERATION,
    SpecialIds,
    generation_config,
    set_vocabulary_size,
)
from mergecore.planning.vocabulary.embedding_rows import OutputTokens
from mergecore.tokenizers.files import is_tokenizer_file
from mergecore.types import Checkpoint, Json, Layers, Loadability, Proposal, Step
from mergecore.types.plans import ConfigEdit


def output_files(
    models: OpenedModels,
    steps: Sequence[Step],
    common: OutputTokens,
    fit: Callable[[Proposal], Loadability | None],
    *,
    selected: Origins = MappingProxyType({}),
    strict: bool = True,
    edit: ConfigEdit | None = MappingProxyType({}),
    keep: Callable[[str], bool] = lambda name: True,
) -> tuple[dict[str, Path | bytes], dict[str, Json], list[str]]:
    """The files that the primary model gives, its config put right, and what the user should know about them.

    fit: says whether a model of `selected` layers would load, and with which config; `strict`: it must.
    edit: what config.json says differently from the primary model's; None for no such file.
    keep: which side files of the primary model are taken over.

    Raises:
        ConfigError: E113 when it would not load.
    """
    primary, vocabulary = models.first, common.vocabulary
    files = {**_carried(primary, keep), **vocabulary.files}
    layers = stackings(models, selected)
    config, warnings = output_config(
        primary.config,
        dtype=_main_dtype(steps),
        stackings=layers,
        untied=_untied(models, selected, steps),
        architecture=primary.reference.architecture,
    )
    told = _follow_vocabulary(models, common, config, files, layers)
    config, warnings = _edited(config, edit), [*warnings, *told]
    if selected:
        config, warnings = fitted(models, selected, steps, config, warnings, fit, strict)
    warnings += [*_borrowed_head(models, selected, steps), *settle_ahead(config, models, steps)]
    written = config if edit is not None and (primary.config or edit) else {}
    return files, written, [*warnings, *_modules_of_some(models)]


def _edited(config: dict[str, Json], edit: ConfigEdit | None) -> dict[str, Json]:
    """`config` with what a recipe says otherwise: by key, where None takes a key away, or by a function of it."""
    if edit is None:
        return config
    if callable(edit):
        return dict(edit(config))
    return {key: value for key, value in {**config, **edit}.items() if value is not None or key not in edit}


def _follow_vocabulary(
    models: OpenedModels,
    common: OutputTokens,
    config: dict[str, Json],
    files: dict[str, Path | bytes],
    layers: Sequence[Layers],
) -> list[str]:
    """Put right in `config` and `files` what depends on ids of tokens and on layers; what could not be followed."""
    primary, vocabulary, warnings = models.first, common.vocabulary, list[str]()
    generation, changed = generation_config(primary), False
    if vocabulary.size is not None:
        set_vocabulary_size(config, common.padded(vocabulary.size))
        rows = vocabulary.rows[models.primary] if vocabulary.rows else None
        ids = SpecialIds(vocabulary, primary, rows)
        ids.follow("config.json", config)
        changed = ids.follow(GENERATION, generation)
        warnings += ids.warnings
    for one in layers:
        changed |= restack_heads(generation, one, primary.config)
    if changed:
        files[GENERATION] = as_json(generation)
    return warnings


def _carried(primary: Checkpoint, keep: Callable[[str], bool]) -> dict[str, Path]:
    """The side files about which nothing else decides."""
    return {
        name: path
        for name, path in primary.side_files.items()
        if name != "config.json" and not is_tokenizer_file(name) and not is_terms(name) and keep(name)
    }


def _modules_of_some(models: OpenedModels) -> list[str]:
    """What to say about weights of modules that not all models have."""
    primary = models.first
    told = []
    for model in models.checkpoints:
        for other in models.checkpoints:
            folders = dict.fromkeys(
                module_folder(name) for name in model.tensors if name not in other.tensors
            )
            for folder in filter(None, folders):
                what = "copied from it, not merged" if model is primary else "left out"
                told.append(
                    f"weights in {folder} of {model.name} are {what}: {other.name} has no such weights"
                )
    return list(dict.fromkeys(one for one in told))


def _main_dtype(steps: Sequence[Step]) -> str | None:
    """The floating format that most bytes of the output are in."""
    sizes: Counter[str] = Counter()
    for one in (one for step in steps for one in step.outputs):
        if DTYPES[one.dtype].floating:
            sizes[one.dtype] += one.nbytes
    return max(sizes, key=lambda name: sizes[name]) if sizes else None


def _untied(models: OpenedModels, selected: Origins, steps: Sequence[Step]) -> bool:
    """Whether a head is written that the primary leaves out, as its embeddings stand for it, or that of others."""
    tied = models.descriptions[models.primary].tied
    heads = [step for step in steps if step.role.startswith("head")]
    if any(one.name in tied for step in heads for one in step.outputs):
        return True
    embeddings, heads = [step for step in steps if step.role == "embed"], _matrices(steps)
    config = models.first.config
    says_tied = any(section.get(TIE) is True for _, section in nested_configs(config))
    if not (selected and says_tied and heads and embeddings):
        return False
    return {one.model for one in heads[-1].inputs} != {one.model for one in embeddings[0].inputs}


def _matrices(steps: Sequence[Step]) -> list[Step]:
    """The heads that could be tied to embeddings, without what tied ones have beside them, such as biases."""
    shapes = {step.shape for step in steps if step.role == "embed"}
    return [step for step in steps if step.role.startswith("head") and step.shape in shapes]


def _borrowed_head(models: OpenedModels, selected: Origins, steps: Sequence[Step]) -> list[str]:
    """What to say about a head that is none of its own where first and last layers are of different models."""
    description = models.descriptions[models.primary]
    layers = selected.get(description.main.prefix, []) if description.main else []
    if not layers or not description.tied or _matrices(steps):
        return []
    first, last = (models.checkpoints[model].name for model, _ in (layers[0], layers[-1]))
    if first == last:
        return []
    return [
        f"the models have no head of their own, so the embeddings of {first}, which the first slice gives, are also "
        f"the head behind the last layers, which are {last}'s"
    ]
