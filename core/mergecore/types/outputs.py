"""Outputs: the files of weights before they exist, who lays them out, and how numbers are encoded in them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Generic

from mergecore.files.dtypes import nbytes
from mergecore.files.strict_json import Json
from mergecore.types.architectures import Description
from mergecore.types.models import Checkpoint
from mergecore.types.params import NO_PARAMS, P
from mergecore.types.tensors.data import Stored
from mergecore.types.vocabularies import TokenTable

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


WIDEST = 8
"""Bytes that an encoded number takes at most."""


@dataclass(frozen=True)
class OutputTensor:
    """A tensor to be written."""

    name: str
    """Its name in the files."""
    dtype: str
    """Its format, as a header says it, such as "BF16"."""
    shape: tuple[int, ...]
    """Its shape."""

    @property
    def count(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of its numbers."""
        return nbytes(self.dtype, self.shape)


@dataclass(frozen=True)
class OutputFile:
    """A file of weights that is known before a weight is read: its first bytes and its size."""

    name: str
    """Its name in the folder."""
    header: bytes
    """Its first bytes."""
    size: int
    """All its bytes."""


@dataclass(frozen=True)
class Slot:
    """Where the bytes of a tensor go: index into `Layout.files`, offset from the start of that file."""

    file: int
    """Index into `Layout.files`."""
    offset: int
    """From the start of the file, in bytes."""
    nbytes: int
    """How many bytes it takes."""
    encoding: str = ""
    """One of `OutputWriter.codecs`; empty for the dtype of the tensor."""


@dataclass(frozen=True)
class Layout:
    """The output before it exists: files, and a slot for each tensor."""

    files: tuple[OutputFile, ...]
    """The files of weights."""
    slots: Mapping[str, Slot]
    """By the name of the tensor."""
    index_files: Mapping[str, bytes] = field(default_factory=dict)
    """Small files that belong to the weights, such as an index."""

    @property
    def size(self) -> int:
        """Bytes of all weight files."""
        return sum(file.size for file in self.files)


@dataclass(frozen=True, kw_only=True)
class LayoutRequest:
    """What an output writer lays out, and what it may say about it in the files."""

    tensors: tuple[OutputTensor, ...]
    """In the order of the plan."""
    config: Mapping[str, Json] = field(default_factory=dict)
    """The config.json of the output; empty where it has none, and for the modules in folders of their own."""
    side_files: Mapping[str, Path | bytes] = field(default_factory=dict)
    """The files beside the weights, by name."""
    vocabulary: Callable[[], TokenTable | None] = lambda: None
    """Reads the vocabulary of the output, which takes a moment; None where it has no tokenizer."""
    primary: Checkpoint | None = None
    """The model that gives config and side files."""
    description: Description | None = None
    """What is known about the tensors of `primary`, by its names."""
    title: str = ""
    """The name that the config gives the model."""


@dataclass(frozen=True, kw_only=True)
class Codec:
    """How numbers are encoded in blocks that do not depend on each other, such as Q8_0: 32 numbers in 34 bytes.

    block_elements: the numbers of a block, a power of two.  Blocks run along rows, which must be multiples of it.
    block_bytes: the bytes of a block.
    encode: the bytes of float32 numbers, which are a multiple of `block_elements`, block after block; called from
        any thread.  The numbers must not be changed.
    largest: the largest magnitude that can be encoded.
    """

    block_elements: int
    block_bytes: int
    encode: Callable[[npt.NDArray[np.float32]], bytes]
    largest: float = math.inf

    def nbytes(self, count: int) -> int:
        """Bytes of `count` numbers."""
        return count // self.block_elements * self.block_bytes


@dataclass(frozen=True, kw_only=True)
class OutputWriter(Generic[P]):
    """A file format: it lays tensors out in files; the core writes the bytes.

    name: what a config calls it under `output`.
    layout: the files, and a place in them for every tensor, before a weight is read.
    params: its parameters, which stand beside its name in a config.
    codecs: the encodings that its slots name, beside the dtypes of tensors.
    read: the tensors that a file of weights says it holds, by which `mergecore verify` checks it; `Stored.dtype` is
        that of the tensor, or the encoding.  A file that cannot be read is a `MergecoreError`.
    defaults: what parameters are where the config does not say, from the `config.json` of the output's model.
    summary: what it writes, in one line of at most 59 characters, for lists.
    """

    name: str
    layout: Callable[[LayoutRequest, P], Layout]
    params: type[P] = NO_PARAMS
    codecs: Mapping[str, Codec] = field(default_factory=dict)
    read: Callable[[Path], Sequence[Stored]] | None = None
    defaults: Callable[[Mapping[str, Json]], Mapping[str, Json]] | None = None
    summary: str = ""
