"""The vocabulary of the output: asks the strategy that the config names, and follows what it says of tokens.

Read `output_vocabulary`; `open_models` is its other half.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from mergecore.config.chosen import UNCHANGED, Choice, read_params
from mergecore.config.grammar import MergeConfig, TokenizerConfig
from mergecore.config.values import OtherToken, ZeroToken
from mergecore.errors import Collector, ConfigError, InputError, Place, PluginError, did_you_mean
from mergecore.files.yaml_document import DocPath
from mergecore.models.key_mapping import check_prefix, in_one_layout, under_prefix
from mergecore.models.opener import Opener
from mergecore.planning.embedding_rows import Common, Row, TokenRule
from mergecore.planning.slices import prefixes_of, references, selects_layers
from mergecore.tokenizers.chat_template import chosen_template, with_template
from mergecore.tokenizers.checks import checked
from mergecore.tokenizers.read import VocabularyReader
from mergecore.types import (
    Checkpoint,
    Description,
    ModelReference,
    TokenizerRequest,
    TokenizerStrategy,
    Vocabulary,
)


@dataclass(frozen=True)
class Opened:
    """The models of a merge, and behind them those that only give the embeddings of tokens."""

    references: tuple[ModelReference, ...]
    checkpoints: tuple[Checkpoint, ...]
    descriptions: tuple[Description, ...]
    merged: int
    """How many of them are merged."""
    parts: frozenset[int] = frozenset()
    """Those that are a part of the others: their tensors got the names that they have there."""

    @property
    def merging(self) -> tuple[Checkpoint, ...]:
        """The models that are merged."""
        return self.checkpoints[: self.merged]

    @property
    def comparable(self) -> list[Checkpoint]:
        """The models that are merged and are no part of others: of one kind, if all is well."""
        return [one for i, one in enumerate(self.merging) if i not in self.parts]


def open_models(config: MergeConfig, opener: Opener, quick: bool = False) -> Opened:
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
    checkpoints = in_one_layout(moved, opener)
    thorough = selects_layers(config) and not quick
    descriptions = tuple(opener.describe(checkpoint, thorough) for checkpoint in checkpoints)
    parts = frozenset(i for i, reference in enumerate(everyone) if reference in prefixes)
    return Opened(tuple(everyone), checkpoints, descriptions, len(merged), parts)


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
            yield rule.source.model, _path(token)
        elif isinstance(rule.source, ModelReference):
            yield rule.source, _path(token)


def output_vocabulary(config: MergeConfig, models: Opened, donor: int, opener: Opener) -> tuple[str, Common]:
    """The name of the tokenizer strategy, and what it decides; with the chat template that the config wants.

    Raises:
        MergecoreError: what the strategy finds wrong with the models, E105 for a token that its source lacks,
            E240 for a template or a tokenizer that cannot be read, E308 for a template that is too large.
    """
    problems = Collector()
    template = None
    with problems.collecting():
        if config.chat_template:
            template = chosen_template(config.chat_template, models.checkpoints[: models.merged])
    with problems.collecting():
        name, common = _decided(config, models, donor, opener)
    problems.raise_any()
    if config.chat_template:
        common = replace(common, vocabulary=_with_template(common.vocabulary, template))
    source = common.vocabulary.source or models.checkpoints[donor]
    return name, replace(common, vocabulary=checked(common.vocabulary, source.name))


def _decided(config: MergeConfig, models: Opened, donor: int, opener: Opener) -> tuple[str, Common]:
    """The name of the tokenizer strategy, and what it decides."""
    wanted = config.vocabulary
    name = UNCHANGED if wanted is None else wanted.chosen
    strategy: TokenizerStrategy[Any] = opener.registry.get(TokenizerStrategy, name)
    request = TokenizerRequest(
        read=VocabularyReader().read,
        models=models.checkpoints[: models.merged],
        donor=donor,
        descriptions=models.descriptions[: models.merged],
        extra=models.checkpoints[models.merged :],
        source=_source(config, models, opener),
        tokens=tuple((wanted.tokens if wanted else None) or ()),
    )
    params = read_params(
        strategy.params, Choice(TokenizerStrategy, name, wanted.params if wanted else {}, ("tokenizer",))
    )
    with opener.registry.calling(TokenizerStrategy, name):
        vocabulary = strategy.build(request, params)
    _check(name, vocabulary, request)
    if wanted is None:
        return name, Common(vocabulary)
    rules = _rules(wanted, vocabulary, models, request, opener)
    return name, Common(vocabulary, rules, wanted.pad_to_multiple_of or 1)


def _source(config: MergeConfig, models: Opened, opener: Opener) -> Checkpoint | None:
    """The model whose vocabulary is asked for; its weights are not needed for that."""
    wanted = config.vocabulary
    if wanted is None or not isinstance(wanted.source, ModelReference):
        return None
    if wanted.source in models.references:
        return models.checkpoints[models.references.index(wanted.source)]
    small = replace(opener, options=replace(opener.options, weights=False))
    try:
        return small.open(
            wanted.source, ("tokenizer", "source") if config.tokenizer else ("tokenizer_source",)
        )
    except InputError as error:
        if error.code == "E701":
            strategies = opener.registry.all(TokenizerStrategy)
            names = [one.name for one in strategies if one.source != "required"]
            error.what += did_you_mean(str(wanted.source), names)
        raise


def _check(name: str, vocabulary: Vocabulary, request: TokenizerRequest) -> None:
    count = len(request.models) + len(request.extra)
    lost = [token for token in request.tokens if token not in vocabulary.ids]
    if lost or (vocabulary.rows and len(vocabulary.rows) != count):
        what = f"the token '{lost[0]}'" if lost else f"the rows of {count} models"
        raise PluginError("E605", f"the tokenizer strategy '{name}' does not say {what}")


def _with_template(vocabulary: Vocabulary, template: str | None) -> Vocabulary:
    if template is None:
        return replace(vocabulary, warnings=(*vocabulary.warnings, "no model has a chat template"))
    warnings = vocabulary.warnings
    if not vocabulary.files:
        warnings += ("the output has a chat template, but no tokenizer",)
    return replace(vocabulary, files=with_template(vocabulary.files, template), warnings=warnings)


# ---- single tokens -----------------------------------------------------------------------------------------


def _path(token: str) -> DocPath:
    return ("tokenizer", "tokens", token)


def _rules(
    wanted: TokenizerConfig, vocabulary: Vocabulary, models: Opened, request: TokenizerRequest, opener: Opener
) -> Mapping[int, TokenRule]:
    """What the config says of tokens, by their ids in the output."""
    finder = _TokenFinder(vocabulary, models, request, opener)
    rules = {}
    problems = Collector()
    for token, rule in (wanted.tokens or {}).items():
        with problems.collecting():
            rows: tuple[Row, ...] | None = None
            if isinstance(rule.source, ZeroToken):
                rows = ()
            elif isinstance(rule.source, OtherToken):
                rows = (finder.other(token, rule.source),)
            elif rule.source is not None:
                rows = (finder.same(token, rule.source),)
            rules[vocabulary.ids[token]] = TokenRule(token, rows, rule.force)
    problems.raise_any()
    return rules


@dataclass(frozen=True)
class _TokenFinder:
    vocabulary: Vocabulary
    models: Opened
    request: TokenizerRequest
    opener: Opener

    def same(self, token: str, reference: ModelReference) -> Row:
        """The row of the same token in a model."""
        model = self.models.references.index(reference)
        stated = self.vocabulary.rows[model] if self.vocabulary.rows else None
        number = self.vocabulary.ids[token]
        row = number if stated is None else stated[number] if number < len(stated) else -1
        if row < 0:
            raise self._lacks(token, token, model)
        return Row(model, int(row))

    def other(self, token: str, source: OtherToken) -> Row:
        """The row of another token, or of an id, in a model."""
        model = self.models.references.index(source.model)
        if source.token_id is not None:
            if source.token_id < 0:
                what = f"token '{token}': token_id is {source.token_id}; ids are counted from 0"
                raise ConfigError("E105", what, place=self.opener.place_of(_path(token)))
            return Row(model, source.token_id)
        table = self.request.read(self.models.checkpoints[model])
        number = table.ids.get(str(source.token)) if table else None
        if number is None:
            raise self._lacks(token, str(source.token), model)
        return Row(model, number)

    def _lacks(self, token: str, wanted: str, model: int) -> ConfigError:
        checkpoint = self.models.checkpoints[model]
        table = self.request.read(checkpoint)
        near = did_you_mean(wanted, sorted(table.special)) if table else ""
        has = f"has no token '{wanted}'{near}" if table else "has no tokenizer"
        what = f"the embedding of '{token}' is to come from {checkpoint.name}, which {has}"
        hint = "name one it has: {kind: model_token, model: M, token: T}, or its number with token_id"
        return ConfigError("E105", what, place=self.opener.place_of(_path(token)), hint=hint)
