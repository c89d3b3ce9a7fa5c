"""The vocabulary of the output: asks the strategy that the config names, and follows what it says about tokens.

Read `output_vocabulary`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from mergecore.config.chosen import UNCHANGED, Choice, read_params
from mergecore.config.grammar import MergeConfig, TokenizerConfig
from mergecore.config.values import OtherToken, ZeroToken
from mergecore.errors import (
    Collector,
    ConfigError,
    InputError,
    MergecoreError,
    PluginError,
    Problems,
    did_you_mean,
)
from mergecore.models.opener import Opener
from mergecore.planning.opened import OpenedModels, token_path
from mergecore.planning.side_files.collect import named_template
from mergecore.planning.vocabulary.embedding_rows import OutputTokens, Row, TokenRule
from mergecore.tokenizers.chat_template import chosen_template, with_template
from mergecore.tokenizers.checks import checked
from mergecore.tokenizers.read import VocabularyReader
from mergecore.types import (
    Checkpoint,
    ModelReference,
    TokenizerRequest,
    TokenizerStrategy,
    Vocabulary,
)


def output_vocabulary(config: MergeConfig, models: OpenedModels, opener: Opener) -> tuple[str, OutputTokens]:
    """The name of the tokenizer strategy, and what it decides; with the chat template that the config wants.

    Raises:
        MergecoreError: what the strategy finds wrong with the models, E105 for a token that its source lacks,
            E240 for a template or a tokenizer that cannot be read, E308 for a template that is too large.
    """
    problems = Collector()
    template = None
    with problems.collecting():
        if config.chat_template:
            named = partial(named_template, registry=opener.registry)
            template = chosen_template(config.chat_template, models.merging, named)
    with problems.collecting():
        name, common = _decided(config, models, opener)
    problems.raise_any()
    if config.chat_template:
        common = replace(common, vocabulary=templated(common.vocabulary, template))
    source = common.vocabulary.source or models.first
    return name, replace(common, vocabulary=checked(common.vocabulary, source.name))


def _decided(config: MergeConfig, models: OpenedModels, opener: Opener) -> tuple[str, OutputTokens]:
    """The name of the tokenizer strategy, and what it decides."""
    wanted = config.vocabulary
    name = UNCHANGED if wanted is None else wanted.chosen
    strategy: TokenizerStrategy[Any] = opener.registry.get(TokenizerStrategy, name)
    request = TokenizerRequest(
        read=VocabularyReader().read,
        models=models.merging,
        primary=models.primary,
        descriptions=models.descriptions[: models.merged],
        token_models=models.checkpoints[len(models.merging) :],
        source=_source(config, models, opener),
        tokens=tuple((wanted.tokens if wanted else None) or ()),
    )
    params = read_params(
        strategy.params, Choice(TokenizerStrategy, name, wanted.params if wanted else {}, ("tokenizer",))
    )
    try:
        with opener.registry.calling(TokenizerStrategy, name):
            vocabulary = strategy.build(request, params)
    except InputError as error:
        raise _with_others(error, request) from None
    _check(name, vocabulary, request)
    if wanted is None:
        return name, OutputTokens(vocabulary)
    rules = _rules(wanted, vocabulary, models, request, opener)
    return name, OutputTokens(vocabulary, rules, wanted.pad_to_multiple_of or 1)


def _with_others(error: InputError, request: TokenizerRequest) -> MergecoreError:
    """An error of a strategy; where it is about a file, with what is wrong with those of the other models."""
    problems = Collector()
    problems.add(error)
    if error.place is None:
        return error
    for model in request.models:
        with problems.collecting():
            request.read(model)
    return Problems(problems.errors) if len(problems.errors) > 1 else error


def _source(config: MergeConfig, models: OpenedModels, opener: Opener) -> Checkpoint | None:
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
    count = len(request.models) + len(request.token_models)
    lost = [token for token in request.tokens if token not in vocabulary.ids]
    if lost or (vocabulary.rows and len(vocabulary.rows) != count):
        what = f"the token '{lost[0]}'" if lost else f"the rows of {count} models"
        raise PluginError("E605", f"the tokenizer strategy '{name}' does not say {what}")


def templated(vocabulary: Vocabulary, template: str | None) -> Vocabulary:
    """A vocabulary with the chat template that is asked for; None where no model has one."""
    if template is None:
        return replace(vocabulary, warnings=(*vocabulary.warnings, "no model has a chat template"))
    warnings = vocabulary.warnings
    if not vocabulary.files:
        warnings += ("the output has a chat template, but no tokenizer",)
    return replace(vocabulary, files=with_template(vocabulary.files, template), warnings=warnings)


# ---- single tokens -----------------------------------------------------------------------------------------


def _rules(
    wanted: TokenizerConfig,
    vocabulary: Vocabulary,
    models: OpenedModels,
    request: TokenizerRequest,
    opener: Opener,
) -> Mapping[int, TokenRule]:
    """What the config says about tokens, by their ids in the output."""
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
    models: OpenedModels
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
                raise ConfigError("E105", what, place=self.opener.place_of(token_path(token)))
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
        what = f"the embedding of '{token}' should come from {checkpoint.name}, which {has}"
        hint = "name one it has: {kind: model_token, model: M, token: T}, or its number with token_id"
        return ConfigError("E105", what, place=self.opener.place_of(token_path(token)), hint=hint)
