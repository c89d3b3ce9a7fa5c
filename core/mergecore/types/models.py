"""Models: how they are opened, what is in their files, and what is known about their tensors."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeAlias

from mergecore.errors import InputError
from mergecore.files.strict_json import Json
from mergecore.types.tensors.data import Origin, TensorData, described

# ---- models as they are opened -----------------------------------------------------------------------------


@dataclass(frozen=True)
class AdapterReference:
    """An adapter as written in a config, and how much of it is added to its base."""

    path: str
    """A folder, or an id of the hub."""
    revision: str | None = None
    """A branch, tag or commit of the hub; None for its main branch."""
    scale: float = 1.0
    """What its change is multiplied by."""

    def __str__(self) -> str:
        revision = f"@{self.revision}" if self.revision else ""
        return f"{self.path}{revision}" + (f" times {self.scale:g}" if self.scale != 1 else "")


@dataclass(frozen=True)
class ModelReference:
    """A model as written in a config: `PATH[@REVISION][+ADAPTER[@REVISION]]…`.

    An empty `path` stands for the base that the first adapter names.
    """

    path: str
    revision: str | None = None
    """A branch, tag or commit of the hub; None for its main branch."""
    adapters: tuple[AdapterReference, ...] = ()
    """Added to the model in this order."""
    architecture: str | None = None
    """A class name that counts in place of the one in config.json."""

    def __str__(self) -> str:
        revision = f"@{self.revision}" if self.revision else ""
        return "+".join(filter(None, [f"{self.path}{revision}", *map(str, self.adapters)]))


def _nothing_opens(
    reference: ModelReference | str, *, weights: bool = True, adapter: bool = False
) -> Checkpoint:
    raise InputError("E701", f"'{reference}': there are no plugins here that could open it")


FetchProgress: TypeAlias = Callable[[str, int, int], object]
"""Takes how far a download is: a file, its bytes that are here, all its bytes; in the thread that fetches."""


class OpenModel(Protocol):
    """Opens a model with whichever source accepts it; how a source opens those that its own model consists of."""

    def __call__(
        self, reference: ModelReference | str, *, weights: bool = True, adapter: bool = False
    ) -> Checkpoint:
        """The model, named as in a config; without `weights`, a folder of small files will do.

        adapter: that it is an adapter, whose tensors are those of its own file and which has no config.

        Raises:
            MergecoreError: E701 when no source accepts it, or opening it leads back to it; what is wrong with it.
        """


class MapKeys(Protocol):
    """Brings the tensors of a model into the names and parts that another one has on disk."""

    def __call__(self, checkpoint: Checkpoint, wanted: Checkpoint) -> Mapping[str, TensorInfo] | None:
        """The tensors of `checkpoint` as `wanted` has them; None when no way is known."""


def _no_mapping(checkpoint: Checkpoint, wanted: Checkpoint) -> Mapping[str, TensorInfo] | None:
    return None


@dataclass(frozen=True)
class OpenOptions:
    """What the user allows while models are opened, and how to open another one."""

    offline: bool = False
    """Use only what is on this machine."""
    weights: bool = True
    """Whether weights are needed; without, a folder of small files will do."""
    adapter: bool = False
    """Whether an adapter is asked for and not a model: the tensors of its own file, without a config."""
    open_model: OpenModel = field(default=_nothing_opens, compare=False, repr=False)
    """Opens another model, such as the base of an adapter."""
    map_keys: MapKeys = field(default=_no_mapping, compare=False, repr=False)
    """Brings tensors into the names that another model has."""


@dataclass(frozen=True)
class TensorInfo:
    """A tensor of a model: its name there, and where its numbers come from."""

    name: str
    """Its name in the model."""
    data: TensorData
    """Where its numbers come from."""

    @property
    def dtype(self) -> str:
        """Its format, as a header says it, such as "BF16"."""
        return self.data.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape."""
        return self.data.shape

    @property
    def stored(self) -> tuple[Origin, ...]:
        """The stored tensors that it is read from, each once."""
        return tuple(one.tensor for one in self.data.reads)

    @property
    def identity(self) -> tuple[str, ...]:
        """What is read, and what is made of it; empty for a stored tensor under its own name."""
        name, *others = words = described(self.data)
        return () if not name and others == [self.name] else words

    @property
    def count(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class WeightFile:
    """A file of weights and what identifies it without reading the weights."""

    path: Path
    """Where it lies, without links."""
    size: int
    """Its bytes."""
    header_sha256: str
    """The digest of its header, which lists the tensors."""
    stamp: tuple[int, ...]
    """Device, inode, times of modification and of any change (ns) when it was opened: a merge stops when they
    change.  Zeros for a file that is not there yet."""


@dataclass(frozen=True)
class SmallFile:
    """What identifies a side file: its bytes, and the stamp of the file that held them."""

    size: int
    """Its bytes."""
    sha256: str
    """Their digest."""
    stamp: tuple[int, ...]
    """As that of a `WeightFile`."""


@dataclass(frozen=True)
class Checkpoint:
    """An opened model: headers, config and side files; no weight has been read."""

    reference: ModelReference
    """What the config says."""
    folder: Path
    """Where its files lie."""
    tensors: Mapping[str, TensorInfo]
    """Its tensors by name."""
    weight_files: tuple[WeightFile, ...]
    """The files that hold them."""
    config: Mapping[str, Json] = field(default_factory=dict)
    """Its config.json; empty where it has none."""
    side_files: Mapping[str, Path] = field(default_factory=dict)
    """Everything but weights, by name relative to the folder; the real paths, without links."""
    revision: str | None = None
    """The commit of the hub that was opened; None for a folder."""
    fetch: Callable[[FetchProgress], None] | None = None
    """Brings the weight files to where `tensors` says they are, and says how far it is; None when they are there."""
    mapped: str = ""
    """How `tensors` differ from what is stored, where they were given the names and parts of another model."""
    small: Mapping[str, SmallFile] = field(default_factory=dict)
    """What identifies the side files, by the same names."""
    notes: tuple[str, ...] = ()
    """What is wrong with its files and harms no merge."""
    parts: tuple[Checkpoint, ...] = ()
    """Further models that it is made of, such as adapters: their files are inputs like its own."""
    about: Mapping[str, Json] = field(default_factory=dict)
    """What its model card says for machines: licence, languages, ..."""
    full_reference: ModelReference | None = None
    """What `reference` stands for where that says less, such as an adapter without its base."""

    @property
    def name(self) -> str:
        """The model as the config writes it."""
        return str(self.reference)

    def file_name(self, file: WeightFile) -> str:
        """The name of a file of weights, with the folder in which it lies if that is a part of the model.

        Files that lie elsewhere, as those of a base and an adapter, get as many names of folders as tell them apart.
        """
        if file.path.is_relative_to(self.folder):
            return file.path.relative_to(self.folder).as_posix()
        parts = file.path.parts
        others = [other.path.parts for other in self.weight_files if other.path != file.path]
        count = 1
        while count < len(parts) and any(other[-count:] == parts[-count:] for other in others):
            count += 1
        return "/".join(parts[-count:])


@dataclass(frozen=True, kw_only=True)
class ModelSource:
    """A way to open a model reference, such as a local folder or a hub id.

    Sources are asked in order of `rank`, then name; the first that accepts a reference opens it.

    name: what lists and messages call it.
    accepts: whether it opens this reference; it looks at names and at what is there, and opens nothing large.
    open: the model, its headers and small files read, no weight; a `MergecoreError` says why that cannot be.
    rank: 50 if nothing is said; a lower one is asked first.
    summary: what it opens, in one line of at most 59 characters, for lists.
    """

    name: str
    accepts: Callable[[ModelReference, OpenOptions], bool]
    open: Callable[[ModelReference, OpenOptions], Checkpoint]
    rank: int = 50
    summary: str = ""


# ---- what a checkpoint consists of -------------------------------------------------------------------------
