"""What decides how tensors are merged: tokenizer strategies and merge methods."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Generic, Literal, TypeAlias, TypeVar

from mergecore.types.models import Checkpoint, Description, Json

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import torch

    from mergecore.engine import TensorGroup
    from mergecore.params import Params
    from mergecore.types.plans import Step

Rows: TypeAlias = "Sequence[int] | npt.NDArray[np.int64]"
P = TypeVar("P", bound="Params")


# ---- vocabularies ------------------------------------------------------------------------------------------


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


def _vocabulary_reader() -> Callable[[Checkpoint], TokenTable | None]:
    from mergecore.vocabulary import VocabularyReader

    return VocabularyReader().read


@dataclass(frozen=True)
class TokenizerRequest:
    """What a tokenizer strategy decides from."""

    models: tuple[Checkpoint, ...]
    """In order of appearance, the base first."""
    donor: int
    """Index of the model that gives config and side files."""
    descriptions: tuple[Description, ...]
    extra: tuple[Checkpoint, ...] = ()
    """Models that are not merged, and only give the embeddings of single tokens."""
    source: Checkpoint | None = None
    """The model whose vocabulary is asked for by name; it may be one of the others."""
    tokens: tuple[str, ...] = ()
    """Tokens that the output must have."""
    read: Callable[[Checkpoint], TokenTable | None] = field(default_factory=_vocabulary_reader)
    """Reads the vocabulary of a model, the same files once; None when it has no tokenizer."""


@dataclass(frozen=True)
class Vocabulary:
    """The vocabulary of the output: its files, and where its rows are in the tensors of each model."""

    files: Mapping[str, Path | bytes]
    rows: tuple[Rows | None, ...] = ()
    """For each model of the request, extra ones last: the row of each id of the output, -1 where it has none.

    None for a model whose tensors are taken as they are; so are all where there are no rows at all.
    """
    ids: Mapping[str, int] = field(default_factory=dict)
    """The tokens of the output; empty when nobody had to read them."""
    size: int | None = None
    """How many ids the output has; None to keep the number of rows that the donor's tensors have."""
    source: Checkpoint | None = None
    """The model whose vocabulary it is, when that is not the donor's: its configs state the right special ids."""
    warnings: tuple[str, ...] = ()
    roles: Mapping[str, int] | None = None
    """The ids of the tokens that begin and end texts and so on (`bos`, `eos`, `pad`), where they are known."""


@dataclass(frozen=True, kw_only=True)
class TokenizerStrategy(Generic[P]):
    """A way to choose the output vocabulary.

    `build` decides and raises a `MergecoreError` for models that do not fit together.  The core aligns the
    tensors by its answer: rows that a model lacks, padding, and what the config says of single tokens.
    """

    name: str
    build: Callable[[TokenizerRequest, P], Vocabulary]
    params: type[P]


# ---- merge methods -----------------------------------------------------------------------------------------

Merged: TypeAlias = "torch.Tensor | Blocks"


@dataclass(frozen=True)
class Blocks:
    """The promise that `TensorGroup.map` has written the whole tensor; only the engine makes one."""

    count: int


@dataclass(frozen=True, kw_only=True)
class MergeMethod(Generic[P]):
    """A way to make n tensors into one: a pure function, and what it needs.

    space: "delta" hands the function `X_i - base` and adds the base back; "weight" hands it the tensors.
    base: whether `base_model` is needed.  "required" in weight space makes the base input 0; "unused" lets
        it take part only where it is listed as a model.
    models: the least and the largest number of models beside the base (None: any number).
    reproducible: "bitwise" on any machine, or only on the "same-machine".
    passes: how often the inputs are read, for estimates.
    whole: the function uses `group.x`, so whole tensors are held in memory.
    check: further conditions on one tensor's parameters, found while planning; it gets the parameters and
        the number of inputs, and raises a `MergecoreError`.
    check_all: the same for all tensors together; it gets their steps and the names of `Plan.models`.
    prepare: what takes all tensors before the first is merged, such as a threshold for the whole model.  It
        gets their groups in the order of the plan, each made anew whenever it is taken, and the parameters of
        each.  What it returns is `group.state` from then on and stands in the manifest, so it is small and
        plain values; None when these parameters need nothing, and then it reads nothing.
    holds: bytes that it keeps for a step beside its blocks: once, and again for each worker.
    """

    name: str
    merge: Callable[[TensorGroup, P], Merged]
    params: type[P]
    space: Literal["weight", "delta"] = "weight"
    base: Literal["required", "optional", "unused"] = "unused"
    models: tuple[int, int | None] = (1, None)
    paper: str | None = None
    formula: str = ""
    example: str = ""
    reproducible: Literal["bitwise", "same-machine"] = "bitwise"
    passes: int = 1
    whole: bool = False
    check: Callable[[P, int], None] | None = None
    check_all: Callable[[Sequence[Step], Sequence[str]], None] | None = None
    prepare: Callable[[Sequence[TensorGroup], Sequence[P]], Json] | None = None
    holds: Callable[[Step], tuple[int, int]] | None = None
