"""Vocabularies: what a tokenizer strategy decides from, and what it decides."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Generic, Literal, TypeAlias

from mergecore.files.strict_json import Json
from mergecore.types.architectures import Description
from mergecore.types.models import Checkpoint
from mergecore.types.params import NO_PARAMS, P

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


Rows: TypeAlias = "Sequence[int] | npt.NDArray[np.int64]"


@dataclass(frozen=True)
class TokenTable:
    """The vocabulary of a model, as its tokenizer files state it."""

    file: str
    """Which file states it, such as "tokenizer.json"."""
    kind: str
    """`BPE`, `Unigram`, `WordPiece`, `WordLevel`, or nothing where the file does not say."""
    ids: Mapping[str, int]
    """Every token, added ones included; no two have one id, and some ids may have no token."""
    added: Mapping[str, Mapping[str, Json]]
    """Tokens beside the model of the tokenizer, with their flags."""
    special: frozenset[str]
    """Tokens that are added, or play a part such as the end of a text; the others are ordinary."""


@dataclass(frozen=True)
class TokenizerRequest:
    """What a tokenizer strategy decides from."""

    models: tuple[Checkpoint, ...]
    """In order of appearance, the base first."""
    primary: int
    """Index of the model that gives config and side files."""
    descriptions: tuple[Description, ...]
    """What is known about each of `models`."""
    token_models: tuple[Checkpoint, ...] = ()
    """Models that are not merged, and only give the embeddings of single tokens."""
    source: Checkpoint | None = None
    """The model whose vocabulary is asked for by name; it may be one of the others."""
    tokens: tuple[str, ...] = ()
    """Tokens that the output must have."""
    read: Callable[[Checkpoint], TokenTable | None] = field(kw_only=True)
    """Reads the vocabulary of a model, the same files once; None when it has no tokenizer."""


@dataclass(frozen=True)
class Vocabulary:
    """The vocabulary of the output: its files, and where its rows are in the tensors of each model."""

    files: Mapping[str, Path | bytes]
    """The tokenizer files, by name."""
    rows: tuple[Rows | None, ...] = ()
    """For each model of the request, token models last: the row of each id of the output, -1 where it has none.

    None for a model whose tensors are taken as they are; so are all where there are no rows at all.
    """
    ids: Mapping[str, int] = field(default_factory=dict)
    """The tokens of the output; empty when they did not have to be read."""
    size: int | None = None
    """How many ids the output has; None to keep the number of rows that the primary model's tensors have."""
    source: Checkpoint | None = None
    """The model whose vocabulary it is, when that is not the primary model: its configs state the right special ids."""
    warnings: tuple[str, ...] = ()
    """What the user should know."""
    roles: Mapping[str, int] | None = None
    """The ids of the tokens that begin and end texts and so on (`bos`, `eos`, `pad`), where they are known."""


@dataclass(frozen=True, kw_only=True)
class TokenizerStrategy(Generic[P]):
    """A way to choose the output vocabulary.

    `build` decides and raises a `MergecoreError` for models that do not fit together.  The core aligns the
    tensors by its answer: rows that a model lacks, padding, and what the config says about single tokens.

    name: what a config calls it under `tokenizer`.
    build: decides on the vocabulary of the output.
    params: its parameters, which stand beside its name in a config.
    source: whether the config names a model for it, `TokenizerRequest.source`.
    summary: what it does, in one line of at most 59 characters, for lists.
    """

    name: str
    build: Callable[[TokenizerRequest, P], Vocabulary]
    params: type[P] = NO_PARAMS
    source: Literal["required", "optional", "unused"] = "unused"
    summary: str = ""
