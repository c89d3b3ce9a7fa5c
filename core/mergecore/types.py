"""Every value that crosses the border between the core and a plugin, in the order a merge meets them.

All are frozen.  What a plugin yields comes with the name users write; what a plugin is handed is plain data.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Literal, Protocol, TypeAlias, TypeVar

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import torch

    from mergecore.compiling import PlanOptions
    from mergecore.engine import TensorGroup
    from mergecore.params import Params
    from mergecore.plugins import Registry
    from mergecore.yaml_document import Document

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"
Rows: TypeAlias = "Sequence[int] | npt.NDArray[np.int64]"
P = TypeVar("P", bound="Params")


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
    stamp: tuple[int, int, int]
    """Device, inode and modification time (ns) when it was opened: a merge stops when they change."""


@dataclass(frozen=True)
class Checkpoint:
    """An opened model: headers, config and side files; no weight has been read."""

    reference: ModelReference
    folder: Path
    tensors: Mapping[str, TensorInfo]
    weight_files: tuple[WeightFile, ...]
    config: Mapping[str, Json] = field(default_factory=dict)
    side_files: Mapping[str, Path] = field(default_factory=dict)
    """Everything but weights, by name relative to the folder."""
    revision: str | None = None
    fetch: Callable[[], None] | None = None
    """Brings the weight files to where `tensors` says they are; None when they are there."""
    layout: str = ""
    """How `tensors` differ from what is stored, where they were given the names and parts of another model."""

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


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """A describer of checkpoints.  The one of lowest `rank` that returns a description is believed.

    slow: describing takes a second or more; such a describer is asked only where more than names decides
        something: when layers or modules are chosen, roles are asked for, or vocabularies are aligned.
    fit: whether a model that is to be made of selected layers would load; None when it cannot tell.
    layout: the tensors of a checkpoint under the names, and cut or joined to the parts, that another one has;
        None when it knows no way.  Every stored tensor is still there, under its own name if it has no place.
    """

    name: str
    describe: Callable[[Checkpoint], Description | None]
    rank: int = 50
    slow: bool = False
    fit: Callable[[Proposal], Fit | None] | None = None
    layout: Callable[[Checkpoint, Checkpoint], Mapping[str, TensorInfo] | None] | None = None


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


# ---- plans -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class RowSource:
    """Rows of a stored tensor: `rows[i]` (aligned,) stands for row i of the output, -1 where none does."""

    model: int
    """Index into `Plan.models`."""
    tensor: TensorInfo
    rows: npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class RowMap:
    """How the rows of a tensor, along `axis`, become those of the output while it is read.

    Row i of the output is the mean of what the `sources` have for it, zero where none has anything.  Rows
    from `aligned` up to `size` are padding: the mean of all rows before them.
    """

    axis: int
    size: int
    aligned: int
    sources: tuple[RowSource, ...]
    """At least one: the tensor of the input itself comes first."""


@dataclass(frozen=True)
class TensorInput:
    """One input of a step: which model, which tensor."""

    model: int
    """Index into `Plan.models`."""
    tensor: TensorInfo
    rows: RowMap | None = None
    """How its rows are brought to those of the output; None when they are taken as they are."""

    @property
    def dtypes(self) -> tuple[str, ...]:
        """The dtypes of everything that is read for it."""
        return (self.tensor.dtype, *(one.tensor.dtype for one in (self.rows.sources if self.rows else ())))

    @property
    def reads(self) -> tuple[tuple[int, str], ...]:
        """Model and name of every tensor that is read for it."""
        further = self.rows.sources if self.rows else ()
        read = [(self.model, self.tensor), *((one.model, one.tensor) for one in further)]
        return tuple((model, one.name) for model, tensor in read for one in tensor.stored)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape it has in the step."""
        if self.rows is None:
            return self.tensor.shape
        axis = self.rows.axis
        return (*self.tensor.shape[:axis], self.rows.size, *self.tensor.shape[axis + 1 :])


@dataclass(frozen=True)
class Depth:
    """Where a layer stands in its slice: `index` of `count`; the position of a gradient follows from it."""

    index: int
    count: int

    @property
    def t(self) -> float:
        """0 at the first layer, 1 at the last; a lone layer stands at 1."""
        return self.index / (self.count - 1) if self.count > 1 else 1.0


@dataclass(frozen=True)
class Step:
    """How one output tensor is made.  Without a method it is a copy of its only input."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    inputs: tuple[TensorInput, ...]
    method: str | None = None
    params: Params | None = None
    base: TensorInput | None = None
    depth: Depth | None = None
    role: str = ""
    note: str = ""
    """Why it is copied, or what is unusual."""
    extra: tuple[TensorInput, ...] = ()
    """Matrices of any shape that the method reads beside its inputs, row by row."""


@dataclass(frozen=True)
class OutputTensor:
    """A tensor to be written."""

    name: str
    dtype: str
    shape: tuple[int, ...]


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
    """A file format: it lays tensors out in files; the core writes the bytes."""

    name: str
    layout: Callable[[Sequence[OutputTensor], P], Layout]
    params: type[P]


@dataclass(frozen=True)
class Dropped:
    """Input tensors that reach no output, and why."""

    model: int
    names: tuple[str, ...]
    reason: str


@dataclass(frozen=True)
class Plan:
    """Everything that will happen, decided from headers alone."""

    models: tuple[Checkpoint, ...]
    donor: int
    steps: tuple[Step, ...]
    layout: Layout
    side_files: Mapping[str, Path | bytes]
    seed: int
    executor: str
    document: Mapping[str, Json]
    """The config as it was read."""
    descriptions: tuple[Description, ...] = ()
    layers: Mapping[str, tuple[tuple[int, int], ...]] = field(default_factory=dict)
    """Of each stack whose layers were selected, by its prefix: for each layer the model and layer that stand first."""
    dropped: tuple[Dropped, ...] = ()
    warnings: tuple[str, ...] = ()
    plugins: Mapping[str, str] = field(default_factory=dict)
    """Distribution and version of every plugin that takes part."""
    title: str = ""
    recipe: str = ""
    """The recipe whose own methods make steps; empty for a merge."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Another kind of document that compiles to a plan.

    accepts: whether a document is of this kind.
    compile: the plan of a document, with the plugins to use and what the command line adds.
    methods: what makes steps of its plans and can be named by no config; their plans name the recipe.
    """

    name: str
    accepts: Callable[[Mapping[str, Json]], bool]
    compile: Callable[[Document, Registry, PlanOptions], Plan]
    methods: tuple[MergeMethod[Any], ...] = ()


# ---- execution ---------------------------------------------------------------------------------------------


class Crew(Protocol):
    """The workers of an executor, lent to one pass over the blocks of one tensor."""

    def each(self, count: int, work: Callable[[int], None]) -> None:
        """Call `work` once with every index below `count`, in any order, on any worker; wait for all."""


@dataclass(frozen=True)
class StepResult:
    """A finished step: the digest of the bytes written for it."""

    name: str
    digest: str
    nbytes: int
    nonfinite: int = 0


RunStep: TypeAlias = Callable[[Step, Crew], StepResult]


@dataclass(frozen=True, kw_only=True)
class Executor:
    """Where the steps of a plan run.  `run` yields results in any order and stops at the first exception."""

    name: str
    run: Callable[[Sequence[Step], RunStep, int], Iterator[StepResult]]
