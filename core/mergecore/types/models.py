"""Models: how they are opened, what is in their files, and what is known of their tensors."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"


# ---- models as they are opened -----------------------------------------------------------------------------


@dataclass(frozen=True)
class ModelReference:
    """A model as written in a config: `PATH[@REVISION][+ADAPTER[@REVISION]]`."""

    path: str
    revision: str | None = None
    adapter: ModelReference | None = None
    architecture: str | None = None

    def __str__(self) -> str:
        revision = f"@{self.revision}" if self.revision else ""
        return f"{self.path}{revision}" + (f"+{self.adapter}" if self.adapter else "")


@dataclass(frozen=True)
class OpenOptions:
    """What the user allows while models are opened."""

    offline: bool = False
    weights: bool = True
    """Whether weights are needed; without, a folder of small files will do."""


@dataclass(frozen=True)
class FileSpan:
    """Bytes of a file: the elements of one tensor, little-endian, in C order."""

    file: Path
    offset: int


@dataclass(frozen=True)
class Piece:
    """Consecutive elements of a stored tensor, and where they stand in the tensor that is put together."""

    at: int
    tensor: TensorInfo
    start: int
    count: int


@dataclass(frozen=True)
class TensorInfo:
    """One tensor as a header states it; `dtype` is the header's word, such as "BF16".

    One that is stored in another layout is put together of `pieces`, which follow one another without a gap;
    its `data` is then that of the first and not to be used.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    data: FileSpan
    pieces: tuple[Piece, ...] = ()

    @property
    def stored(self) -> tuple[TensorInfo, ...]:
        """The tensors of the file that it is read from, each once: itself, or those of its pieces."""
        found = {one.name: one for piece in self.pieces for one in piece.tensor.stored}
        return tuple(found.values()) or (self,)

    @property
    def count(self) -> int:
        """Number of elements."""
        count = 1
        for size in self.shape:
            count *= size
        return count


@dataclass(frozen=True)
class WeightFile:
    """A file of weights and what identifies it without reading the weights."""

    path: Path
    size: int
    header_sha256: str
    stamp: tuple[int, ...]
    """Device, inode, times of modification and of any change (ns) when it was opened: a merge stops when they
    change.  Zeros for a file that is not there yet."""


@dataclass(frozen=True)
class SmallFile:
    """What identifies a side file: its bytes, and the stamp of the file that held them."""

    size: int
    sha256: str
    stamp: tuple[int, ...]


@dataclass(frozen=True)
class Checkpoint:
    """An opened model: headers, config and side files; no weight has been read."""

    reference: ModelReference
    folder: Path
    tensors: Mapping[str, TensorInfo]
    weight_files: tuple[WeightFile, ...]
    config: Mapping[str, Json] = field(default_factory=dict)
    side_files: Mapping[str, Path] = field(default_factory=dict)
    """Everything but weights, by name relative to the folder; the real paths, without links."""
    revision: str | None = None
    fetch: Callable[[], None] | None = None
    """Brings the weight files to where `tensors` says they are; None when they are there."""
    layout: str = ""
    """How `tensors` differ from what is stored, where they were given the names and parts of another model."""
    small: Mapping[str, SmallFile] = field(default_factory=dict)
    """What identifies the side files, by the same names."""

    @property
    def name(self) -> str:
        """The model as the config writes it."""
        return str(self.reference)


@dataclass(frozen=True, kw_only=True)
class ModelSource:
    """A way to open a model reference, such as a local folder or a hub id.

    Sources are asked in order of `rank`, then name; the first that accepts a reference opens it.
    """

    name: str
    accepts: Callable[[ModelReference, OpenOptions], bool]
    open: Callable[[ModelReference, OpenOptions], Checkpoint]
    rank: int = 50


# ---- what a checkpoint consists of -------------------------------------------------------------------------


@dataclass(frozen=True)
class Stack:
    """Repeated layers: the tensors named `{prefix}{index}.…` for `count` indices from 0.

    Layers behind these, which predict tokens further ahead, are tensors after the layers.
    """

    prefix: str
    count: int


@dataclass(frozen=True)
class TensorFacts:
    """What is known of one tensor: where it stands, and what it does if that is known."""

    stack: str | None = None
    """Prefix of its stack, None outside the layers."""
    layer: int | None = None
    suffix: str = ""
    """Its name within the layer, or its whole name outside the layers."""
    after: bool = False
    """Outside the layers only: applied after them (final norm, head) rather than before (embeddings)."""
    role: str = ""
    """`attn.q`, `mlp.down`, `norm`, `embed`, `head`, … or nothing."""
    vocabulary_axis: int | None = None
    module: str = ""
    """Name of its module, where the model has several."""


@dataclass(frozen=True)
class Module:
    """A part of a model that can be merged in its own way, such as the text model of one that also sees."""

    name: str
    stack: Stack | None = None
    """Its layers, if it has any to choose from."""
    layer_count_key: tuple[str, ...] | None = None
    """Where config.json holds the number of these layers."""
    aliases: tuple[str, ...] = ()
    """What other tools call it."""


@dataclass(frozen=True)
class Description:
    """What a describer knows of a checkpoint.  It adds knowledge; it never adds or removes a tensor."""

    by: str
    family: str
    stacks: tuple[Stack, ...]
    main: Stack | None
    """The stack that layer ranges mean; None when that is ambiguous."""
    tensors: Mapping[str, TensorFacts]
    tied: Mapping[str, str] = field(default_factory=dict)
    """Names that are not on disk, and the tensor that stands for each."""
    layer_count_key: tuple[str, ...] | None = None
    """Where config.json holds the number of layers of `main`."""
    modules: tuple[Module, ...] = ()
    """Its modules in order; none where it is a single one."""

    def module(self, name: str) -> Module | None:
        """The module of that name, or else of that alias; a model of one module is called `default`."""
        if not self.modules:
            return Module("default", self.main, self.layer_count_key) if name in ("", "default") else None
        named = [one for one in self.modules if one.name == name]
        return next(iter([*named, *(one for one in self.modules if name in one.aliases)]), None)


@dataclass(frozen=True)
class Layers:
    """The layers of a stack of a model that is made of layers of others."""

    stack: str
    """The prefix of the stack."""
    count_key: tuple[str, ...] | None
    """Where config.json counts them; there may be a list or a pattern with an entry for each instead of a number."""
    sources: tuple[tuple[Mapping[str, Json], int], ...]
    """For each the config of the model that it comes from, and its index there."""


@dataclass(frozen=True)
class Proposal:
    """A model that is about to be made of layers of others: what its config.json and its headers would say."""

    donor: Checkpoint
    config: Mapping[str, Json]
    shapes: Mapping[str, tuple[int, ...]]
    layers: tuple[Layers, ...]


@dataclass(frozen=True)
class Fit:
    """What a loader would make of a `Proposal`."""

    config: Mapping[str, Json]
    """The config with what it takes to tell the layers apart as their own models do."""
    faults: tuple[str, ...] = ()
    """Why the model cannot be used all the same."""
    lists: Mapping[str, Mapping[str, Json]] = field(default_factory=dict)
    """By the prefix of a stack: the lists with a value for each layer that the donor has, given or derived."""


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """A describer of checkpoints.  The one of lowest `rank` that returns a description is believed.

    slow: describing takes a second or more; such a describer is asked only where more than names decides
        something: when layers or modules are chosen, roles are asked for, or vocabularies are aligned.
    fit: whether a model that is to be made of selected layers would load; None when it cannot tell.
    layout: the tensors of a checkpoint under the names, and cut or joined to the parts, that another one has;
        None when it knows no way.  Every stored tensor is still there, under its own name if it has no place.
    keeps_f32: names of the tensors of a checkpoint that its loader holds in float32 when the rest is in the 16-bit
        format of that name, "F16" or "BF16".
    """

    name: str
    describe: Callable[[Checkpoint], Description | None]
    rank: int = 50
    slow: bool = False
    fit: Callable[[Proposal], Fit | None] | None = None
    layout: Callable[[Checkpoint, Checkpoint], Mapping[str, TensorInfo] | None] | None = None
    keeps_f32: Callable[[Checkpoint, str], Collection[str]] | None = None
