"""Outputs: the files of weights before they exist, and who lays them out."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic

from mergecore.files.dtypes import nbytes
from mergecore.files.strict_json import Json
from mergecore.types.params import NO_PARAMS, P


@dataclass(frozen=True)
class OutputTensor:
    """A tensor to be written."""

    name: str
    dtype: str
    shape: tuple[int, ...]

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
    header: bytes
    size: int


@dataclass(frozen=True)
class Slot:
    """Where the bytes of a tensor go: index into `Layout.files`, offset from the start of that file."""

    file: int
    offset: int
    nbytes: int


@dataclass(frozen=True)
class Layout:
    """The output before it exists: files, and a slot for each tensor."""

    files: tuple[OutputFile, ...]
    slots: Mapping[str, Slot]
    extra: Mapping[str, bytes] = field(default_factory=dict)
    """Small files that belong to the weights, such as an index."""

    @property
    def size(self) -> int:
        """Bytes of all weight files."""
        return sum(file.size for file in self.files)


@dataclass(frozen=True, kw_only=True)
class OutputWriter(Generic[P]):
    """A file format: it lays tensors out in files; the core writes the bytes.

    defaults: what parameters are where the config does not say, from the `config.json` of the output's model.
    """

    name: str
    layout: Callable[[Sequence[OutputTensor], P], Layout]
    params: type[P] = NO_PARAMS
    defaults: Callable[[Mapping[str, Json]], Mapping[str, Json]] | None = None
