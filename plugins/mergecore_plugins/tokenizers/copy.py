"""The tokenizer strategy `copy`: the donor's vocabulary and its files, byte for byte."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mergecore import Params, TokenizerStrategy, hookimpl
from mergecore.types import TokenizerRequest, Vocabulary


class CopyParams(Params):
    """`copy` takes no parameters."""


def copy(request: TokenizerRequest, params: CopyParams) -> Vocabulary:
    """The donor's tokenizer files."""
    from mergecore.output_files import is_tokenizer_file

    donor = request.models[request.donor]
    return Vocabulary({name: path for name, path in donor.side_files.items() if is_tokenizer_file(name)})


@hookimpl
def mergecore_tokenizer_strategies() -> Iterator[TokenizerStrategy[Any]]:
    yield TokenizerStrategy(name="copy", build=copy, params=CopyParams)
