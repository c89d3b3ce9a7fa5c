"""The tokenizer strategy `nth`: the tokenizer files of one of the merged models, chosen by its number."""

from __future__ import annotations

from collections.abc import Iterator

from mergecore import ConfigError, Field, Params, TokenizerStrategy, hookimpl
from mergecore.types import TokenizerRequest, Vocabulary


class NthParams(Params):
    number: int = Field(default=1, ge=1, description="which of the models, counted from 1")
    templates: bool = Field(default=True, description="take the chat template along")


def nth(request: TokenizerRequest, params: NthParams) -> Vocabulary:
    if params.number > len(request.models):
        raise ConfigError("E105", f"there is no model number {params.number}")
    files = request.models[params.number - 1].side_files
    wanted = ("tokenizer", "chat_template") if params.templates else ("tokenizer",)
    return Vocabulary({name: path for name, path in files.items() if name.startswith(wanted)})


@hookimpl
def mergecore_tokenizer_strategies() -> Iterator[TokenizerStrategy[NthParams]]:
    yield TokenizerStrategy(name="nth", build=nth, params=NthParams)
