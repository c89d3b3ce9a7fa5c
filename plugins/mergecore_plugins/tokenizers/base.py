"""The tokenizer strategy `base`: the vocabulary of the base model, and the tokens that the config adds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from mergecore import TokenizerStrategy, hookimpl
from mergecore.types import TokenizerRequest, Vocabulary
from mergecore_plugins.tokenizers.building import AlignParams, build, differences, tables


@hookimpl
def mergecore_tokenizer_strategies() -> Iterator[TokenizerStrategy[Any]]:
    yield TokenizerStrategy(
        name="base",
        build=base,
        params=AlignParams,
        summary="vocabulary of the base, and tokens of the config",
    )


def base(request: TokenizerRequest, params: AlignParams) -> Vocabulary:
    """The base's vocabulary; its files are copied byte for byte unless tokens are added.

    Raises:
        MergecoreError: E240 when the base has no tokenizer.
    """
    known = tables(request, params, lenient=True)
    own, removed = known.own(request.primary)
    made = build(request, known, request.models[request.primary], own, removed=removed)
    return replace(
        made, warnings=(*made.warnings, *differences(request, known, known.stated[request.primary]))
    )
