"""Plans: every output tensor with its inputs and its place in a file, and who carries them out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeAlias

from mergecore.types.merging import MergeMethod, P
from mergecore.types.models import Checkpoint, Description, Json, TensorInfo

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from mergecore.compiling import PlanOptions
    from mergecore.params import Params
    from mergecore.plugins import Registry
    from mergecore.yaml_document import Document

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
    """What is written beside the weights, by name; a path is that of a side file of a model."""
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
    side_digests: Mapping[str, str] = field(default_factory=dict)
    """SHA-256 of every side file as it was checked: no other bytes are written."""
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
