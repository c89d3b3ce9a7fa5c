"""{{ cookiecutter.name }}: the tokenizer of one of the models, chosen by its number."""

from collections.abc import Iterator

from mergecore import ConfigError, Field, Params, TokenizerStrategy, hookimpl
from mergecore.tokenizers import is_tokenizer_file
from mergecore.types import TokenizerRequest, Vocabulary


class NumberParams(Params):
    number: int = Field(default=1, ge=1, description="which of the models, counted from 1")


def build(request: TokenizerRequest, params: NumberParams) -> Vocabulary:
    """The files of that model; the others must have its tokens, as no row is moved."""
    if params.number > len(request.models):
        raise ConfigError("E105", f"number {params.number}: there are {len(request.models)} models")
    files = request.models[params.number - 1].side_files
    return Vocabulary({name: path for name, path in files.items() if is_tokenizer_file(name)})


@hookimpl
def mergecore_tokenizer_strategies() -> Iterator[TokenizerStrategy[NumberParams]]:
    yield TokenizerStrategy(name="{{ cookiecutter.name }}", build=build, params=NumberParams)
