"""The models of a plan as they were opened; read `OpenedModels`, then `open_models`, which opens those of a config."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from mergecore.config.grammar import MergeConfig, SliceConfig
from mergecore.config.values import OtherToken
from mergecore.errors import Place
from mergecore.files.yaml_document import DocPath
from mergecore.models.key_mapping import check_prefix, under_prefix, with_keys_of_base
from mergecore.models.opener import Opener
from mergecore.types import Checkpoint, Description, ModelReference, TensorInfo


@dataclass(frozen=True)
class OpenedModels:
    """The models of a plan with their descriptions, and which of them gives the output its names and its config."""

    checkpoints: tuple[Checkpoint, ...]
    """Those that are merged, and after them those that only give the embeddings of tokens."""
    descriptions: tuple[Description, ...]
    primary: int = 0
    parts: frozenset[int] = frozenset()
    """Models that are a part of the others, so that they lack what is not in it."""
    references: tuple[ModelReference, ...] = ()
    """How the config names them."""
    merged: int | None = None
    """How many of them are merged; None for all."""

    @property
    def first(self) -> Checkpoint:
        """The model that gives names, config and side files."""
        return self.checkpoints[self.primary]

    @property
    def merging(self) -> tuple[Checkpoint, ...]:
        """The models that are merged."""
        return self.checkpoints[: self.merged]

    @property
    def comparable(self) -> list[Checkpoint]:
        """The models that are merged and are no part of others: of one kind, if all is well."""
        return [one for i, one in enumerate(self.merging) if i not in self.parts]

    def find(self, model: int, name: str) -> TensorInfo | None:
        """The tensor of that name, or the one that is tied to it."""
        tensors = self.checkpoints[model].tensors
        return tensors.get(name) or tensors.get(self.descriptions[model].tied.get(name, ""))


def open_models(config: MergeConfig, opener: Opener, quick: bool = False) -> OpenedModels:
    """The models that a config names; `quick`: no describer is asked that takes its time.

    Raises:
        MergecoreError: everything that is wrong with any of them.
    """
    merged = dict(references(config))
    everyone = merged | {one: path for one, path in _token_references(config) if one not in merged}
    prefixes = prefixes_of(config)
    opened = opener.open_all(list(everyone.items()))
    moved = [
        _moved(one, *prefixes[reference], opened[0], opener.place_of(everyone[reference]))
        if reference in prefixes
        else one
        for reference, one in zip(everyone, opened, strict=True)
    ]
    checkpoints = with_keys_of_base(moved, opener)
    thorough = selects_layers(config) and not quick
    descriptions = tuple(opener.describe(checkpoint, thorough) for checkpoint in checkpoints)
    parts = frozenset(i for i, reference in enumerate(everyone) if reference in prefixes)
    whole = [one for i, one in enumerate(descriptions[: len(merged)]) if i not in parts]
    if not (thorough or quick) and _lack_something(whole):
        descriptions = tuple(opener.describe(checkpoint, thorough=True) for checkpoint in checkpoints)
    return OpenedModels(
        checkpoints, descriptions, parts=parts, references=tuple(everyone), merged=len(merged)
    )


def _lack_something(models: Sequence[Description]) -> bool:
    """Whether some model has a tensor outside the layers that another one lacks, and nothing that is tied to it.

    One that knows more than names may know what it is tied to, such as a head that is stored for the embeddings.
    """
    outside = {name for one in models for name, facts in one.tensors.items() if facts.layer is None}
    return any(name not in one.tensors and name not in one.tied for one in models for name in outside)


def _moved(part: Checkpoint, old: str, new: str, whole: Checkpoint, place: Place | None) -> Checkpoint:
    """A model that is a part of `whole`, with the names that it has there."""
    moved = under_prefix(part, old, new, place)
    if part is not whole:
        check_prefix(whole, new, place)
    return moved


def _token_references(config: MergeConfig) -> Iterator[tuple[ModelReference, DocPath]]:
    """The models whose embeddings single tokens get, and where the config names them."""
    wanted = config.vocabulary
    for token, rule in ((wanted.tokens if wanted else None) or {}).items():
        if isinstance(rule.source, OtherToken):
            yield rule.source.model, token_path(token)
        elif isinstance(rule.source, ModelReference):
            yield rule.source, token_path(token)


def token_path(token: str) -> DocPath:
    """Where a config says what becomes of a token."""
    return ("tokenizer", "tokens", token)


# ---- what a config names -----------------------------------------------------------------------------------


def references(config: MergeConfig) -> list[tuple[ModelReference, DocPath]]:
    """Every model of a config once, in order of appearance, the base first; and where it is written."""
    found: dict[ModelReference, DocPath] = {}
    if config.base_model:
        found[config.base_model] = ("base_model",)
    for reference, path in _mentioned(config):
        found.setdefault(reference, path)
    return list(found.items())


def prefixes_of(config: MergeConfig) -> dict[ModelReference, tuple[str, str]]:
    """The models whose tensor names get another prefix: the one they have, and the one they get."""
    return {
        entry.model: entry.prefixes
        for _, models, _ in bodies(config)
        for entry in models
        if entry.prefixes is not None
    }


def selects_layers(config: MergeConfig) -> bool:
    """Whether layers or modules are chosen, so that it matters which tensors are layers of which stack."""
    return len(config.modules or {}) > 1 or any(slices for _, _, slices in bodies(config))


def _mentioned(config: MergeConfig) -> Iterator[tuple[ModelReference, DocPath]]:
    for prefix, models, slices in bodies(config):
        for i, entry in enumerate(models):
            yield entry.model, (*prefix, "models", i, "model")
        for i, one in enumerate(slices):
            if one.base_model:
                yield one.base_model, (*prefix, "slices", i, "base_model")
            for j, source in enumerate(one.sources):
                yield source.model, (*prefix, "slices", i, "sources", j, "model")


def bodies(config: MergeConfig) -> Iterator[tuple[DocPath, Sequence[Any], Sequence[SliceConfig]]]:
    """The path of each body of a config, its models and its slices."""
    yield (), config.models or (), config.slices or ()
    for name, module in (config.modules or {}).items():
        yield ("modules", name), module.models or (), module.slices or ()
