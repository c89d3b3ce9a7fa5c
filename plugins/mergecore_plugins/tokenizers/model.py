"""The tokenizer strategy `model`: the vocabulary of the model that the config names, merged or not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from mergecore import TokenizerStrategy, hookimpl
from mergecore.types import TokenizerRequest, Vocabulary
from mergecore_plugins.tokenizers.building import AlignParams, build, differences, read_needed, tables


@hookimpl
def mergecore_tokenizer_strategies() -> Iterator[TokenizerStrategy[Any]]:
    yield TokenizerStrategy(
        name="model",
        build=model,
        params=AlignParams,
        source="required",
        summary="vocabulary of the model that the config names",
    )


def model(request: TokenizerRequest, params: AlignParams) -> Vocabulary:
    """That model's vocabulary; its files are copied byte for byte unless tokens are added.

    Raises:
        MergecoreError: E240 when it has no tokenizer, or a merged model none.
    """
    source = request.source
    assert source is not None
    own = read_needed(request, source)
    known = tables(request, params)
    stated = own
    removed: tuple[str, ...] = ()
    if source in request.models:
        own, removed = known.own(request.models.index(source))
    made = build(request, known, source, own, removed=removed)
    return replace(made, warnings=(*made.warnings, *differences(request, known, stated)))
